"""The door that gunicorn knocks on: the worker class, and `app`.

Thin: what it does for a worker's start and end is in `nti.appserver.worker`,
what it serves in `nti.appserver.application`, how in `nti.appserver.http`.

gunicorn's arbiter imports this module before anything is patched, so at its
head it must import nothing that captures a lock, a socket or a thread-local:
no ZODB, ZEO, transaction, concurrent.futures, requests, asyncio or Pyramid.
A method says where it runs: "arbiter" or "worker".
"""

import os
from typing import TYPE_CHECKING, Any

from gunicorn.workers.ggevent import GeventWorker

from nti.appserver.errors import ConfigurationError
from nti.appserver.worker.deferred import (
    COMMAND,
    DeferredApplication,
    WSGIApplication,
    declare_arbiter,
    in_arbiter,
    in_worker,
    keep_promises,
)

if TYPE_CHECKING:
    app: WSGIApplication

_apps: list[DeferredApplication] = []


class GeventApplicationWorker(GeventWorker):  # type: ignore[misc]
    """gunicorn's gevent worker, which serves `app` and any other WSGI application."""

    @classmethod
    def setup(cls) -> None:
        """Arbiter: gunicorn takes up this worker class, before it preloads an application."""
        declare_arbiter()

    def load_wsgi(self) -> None:
        """Worker: make the application, before a connection is accepted."""
        super().load_wsgi()
        keep_promises()
        if isinstance(self.wsgi, DeferredApplication):
            self.wsgi = self.wsgi.load()


def _configured() -> WSGIApplication:
    """Worker: the application that NTI_APPSERVER_CONFIG and the other settings name."""
    from nti.appserver.application import make_app

    return make_app(os.environ.get("NTI_APPSERVER_CONFIG"))


def __getattr__(name: str) -> Any:
    """`app`, looked up by gunicorn at boot: the moment to refuse another worker class."""
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if not (in_arbiter() or in_worker()):
        raise ConfigurationError(
            "nti.appserver.gunicorn:app was looked up outside of its worker class",
            "nti.appserver.gunicorn.GeventApplicationWorker",
            f"start it with: {COMMAND}",
        )
    if not _apps:
        _apps.append(DeferredApplication(_configured))
    return _apps[0]
