"""WSGI middleware that serves Socket.IO at /socket.io/.

Runs in the greenlet of the request. Other paths pass untouched.
"""

import logging
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import socketio

from nti.appserver.errors import ConfigurationError
from nti.appserver.handover.names import use_route
from nti.appserver.settings import Settings, load_settings
from nti.appserver.socketio.emitting import use_server
from nti.appserver.socketio.owners import ROUTE
from nti.appserver.socketio.requests import Requests
from nti.appserver.socketio.server import Server

logger = logging.getLogger("nti.appserver.socketio")

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
Application = Callable[[Environ, StartResponse], Iterable[bytes]]

PATH = "/socket.io/"

#: In every environ of our worker, which passes requests on to the session's own.
KEY = "nti.appserver.connection"
WORKER_CLASS = "nti.appserver.gunicorn.GeventApplicationWorker"


class SocketIOMiddleware:
    """Socket.IO beside an application; WebSockets need `WebSocketMiddleware` around it.

    :param app: any WSGI application.
    :param namespaces: instances of `socketio.Namespace`; those of
        `nti.appserver.socketio.Namespace` make each event a unit of work.
    :param settings: those of the environment when not given.
    :raises ConfigurationError: one of `namespaces` is not an instance, or two
        have the same name.
    """

    def __init__(
        self,
        app: Application,
        namespaces: Sequence[Any] = (),
        settings: Settings | None = None,
    ) -> None:
        settings = settings if settings is not None else load_settings(environ=os.environ)
        self.app = app
        #: python-socketio's server, for what this package has no name for.
        self.server = Server(settings)
        for namespace in namespaces:
            self.add_namespace(namespace)
        self._requests = Requests(self.server.eio, settings.origins)
        self._warned = False
        use_server(self.server)
        use_route(ROUTE)

    def add_namespace(self, namespace: Any) -> None:
        """Serve one namespace more.

        :raises ConfigurationError: it is none, or its name is taken.
        """
        if not isinstance(namespace, socketio.Namespace):
            raise ConfigurationError(
                f"namespace {namespace!r}", "an instance of a subclass of socketio.Namespace"
            )
        if namespace.namespace in self.server.namespace_handlers:
            raise ConfigurationError(
                f"two Socket.IO namespaces are called {namespace.namespace!r}",
                mend="give one of them another name",
            )
        self.server.register_namespace(namespace)

    def finish(self) -> None:
        """The worker ends: close the sessions, and wait for the handlers under way, briefly."""
        self.server.eio.finish()

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if not path.startswith(PATH) and path != PATH[:-1]:
            return self.app(environ, start_response)
        if not self._warned and environ.get("wsgi.multiprocess") and KEY not in environ:
            self._warned = True
            logger.warning(
                "Socket.IO with several processes of another server: a session that polls is known "
                "to one of them only; serve with -k %s, whose workers pass its requests on, or "
                "with one process",
                WORKER_CLASS,
            )
        return self._requests(environ, start_response)
