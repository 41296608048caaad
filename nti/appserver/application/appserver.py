"""The chain of middleware, and what it needs from storage.

This module imports every room of the chain, so it is imported in patched
workers and in processes that are never patched, not in gunicorn's arbiter. A
request passes `AppServer.__call__` in its own greenlet; all else here runs
while a process starts.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from nti.appserver.settings import Settings, load_settings
from nti.appserver.worker.deferred import WSGIApplication


def database_for(settings: Settings) -> Any:
    """The database that the setting `storage` names, open; None for `none`."""
    return None


class AppServer:
    """A WSGI application with the middleware of this package around it.

    Outermost first: operations, WebSocket, Socket.IO, transactions, the application.

    :param application: any WSGI application.
    :param settings: those of the environment when not given.
    :param database: the ZODB database that units of work use; None: none.
    :param namespaces: instances of `socketio.Namespace`, served at /socket.io/
        beside those that a Pyramid application has added.
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
