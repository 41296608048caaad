"""The chain of middleware, and what it needs from storage.

This module imports every room of the chain, so it is imported in patched
workers and in processes that are never patched, not in gunicorn's arbiter. A
request passes `AppServer.__call__` in its own greenlet; all else here runs
while a process starts.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from nti.appserver.application.configured import at_end, use_settings
from nti.appserver.ops import OpsMiddleware
from nti.appserver.settings import Settings, load_settings
from nti.appserver.socketio import SocketIOMiddleware
from nti.appserver.socketio.paste import find_namespace
from nti.appserver.transactions import TransactionMiddleware, use_database
from nti.appserver.websocket import WebSocketMiddleware
from nti.appserver.worker.deferred import WSGIApplication

#: Where `config.add_socketio_namespace` keeps them in a Pyramid application's registry.
NAMESPACES_KEY = "nti.appserver.namespaces"


class AppServer:
    """A WSGI application with the middleware of this package around it.

    Outermost first: operations, WebSocket, Socket.IO, transactions, the
    application. A Pyramid application that includes `nti.appserver` runs its
    units of work itself.

    :param application: any WSGI application.
    :param settings: those of the environment when not given.
    :param database: the ZODB database that units of work use; None: none.
    :param namespaces: instances of `socketio.Namespace`, served at /socket.io/
        beside those that the setting `namespaces` names and those that a
        Pyramid application has added.
    """

    def __init__(
        self,
        application: WSGIApplication,
        settings: Settings | None = None,
        *,
        database: Any = None,
        namespaces: Sequence[Any] = (),
    ) -> None:
        self.application = application
        self.settings = settings if settings is not None else load_settings(environ=os.environ)
        self.database = database
        use_settings(self.settings)
        if database is not None:
            use_database(database)
        every = [*namespaces, *_named(self.settings), *_of_pyramid(application)]
        chain: WSGIApplication = TransactionMiddleware(application, self.settings)
        sockets = SocketIOMiddleware(chain, every, self.settings)
        at_end(sockets.finish)
        chain = WebSocketMiddleware(sockets, self.settings)
        self._chain: WSGIApplication = OpsMiddleware(chain, self.settings)

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        return self._chain(environ, start_response)


def _named(settings: Settings) -> list[Any]:
    return [find_namespace(name) for name in settings.namespaces]


def _of_pyramid(application: WSGIApplication) -> Sequence[Any]:
    """The namespaces that `config.add_socketio_namespace` has added."""
    registry = getattr(application, "registry", None)
    return registry.get(NAMESPACES_KEY, ()) if isinstance(registry, dict) else ()
