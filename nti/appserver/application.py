"""From settings to the application that is served.

`AppServer` puts the middleware around an application, `make_app` finds the
application that settings name and puts an `AppServer` around it, `paste_app` is
`make_app` for PasteDeploy.

gunicorn's arbiter imports this module when it preloads a PasteDeploy file, so
the rooms that hold locks and thread-locals are imported where they are used.
Everything here runs once in a worker, in its main greenlet, before it accepts.
"""

import importlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from nti.appserver.errors import ConfigurationError
from nti.appserver.settings import Settings, load_settings
from nti.appserver.worker.deferred import DeferredApplication, WSGIApplication, in_arbiter


class AppServer:
    """A WSGI application with the middleware of this package around it.

    Outermost first: operations, WebSocket, Socket.IO, transactions, the application.

    :param application: any WSGI application.
    :param settings: those of the environment when not given.
    :param database: the ZODB database that units of work use; None: none.
    :param namespaces: instances of `socketio.Namespace` to serve at /socket.io/.
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
        self._chain = application

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        return self._chain(environ, start_response)


def make_app(config_uri: str | None = None, **settings: Any) -> WSGIApplication:
    """The configured application, with the middleware around it.

    In gunicorn's arbiter it is only promised; the worker makes it.
    """
    values = load_settings(environ=os.environ, cli=settings)
    if in_arbiter():
        return DeferredApplication(lambda: _make(values, {}))
    return _make(values, {})


def paste_app(global_conf: Mapping[str, str], **local_conf: str) -> WSGIApplication:
    """PasteDeploy's application factory, `use = egg:nti.appserver`."""
    ini = {**global_conf, **local_conf}
    values = load_settings(ini=ini, environ=os.environ)
    if in_arbiter():
        return DeferredApplication(lambda: _make(values, ini))
    return _make(values, ini)


def _make(settings: Settings, ini: Mapping[str, str]) -> WSGIApplication:
    module, _, name = settings.application.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except ImportError as problem:
        raise ConfigurationError(f"application {settings.application!r}: {problem}") from problem
    return AppServer(found, settings)
