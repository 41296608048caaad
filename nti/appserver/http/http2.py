"""HTTP/2, where a user turns it on: gunicorn's own code, and what must hold there too.

gunicorn serves a whole connection, each stream with its worker's `cfg` and
`wsgi`; `prepare` changes these two once, before the worker serves. What it wraps
runs in the greenlet of the connection and does not switch by itself.
"""

from collections.abc import Callable, Iterable
from typing import Any

from nti.appserver.http import stock
from nti.appserver.http.client import ClientSource, Environ, Trust
from nti.appserver.settings import Settings

Application = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]


def prepare(worker: Any, settings: Settings) -> bool:
    """Have gunicorn's code parse and name clients as ours does; False: HTTP/2 is off."""
    if "h2" not in worker.cfg.http_protocols:
        return False
    worker.cfg = stock.pinned(worker.cfg, schemes=settings.client_source == "x-forwarded-for")
    worker.wsgi = NamedClients(worker.wsgi, settings.client_source, Trust(worker.cfg))
    return True


class NamedClients:
    """An application whose requests are given the client that a trusted peer names."""

    def __init__(self, application: Application, source: str, trust: Trust) -> None:
        self._application = application
        self._source = ClientSource(source, trust)
        self._trust = trust

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        # Until now REMOTE_ADDR is the peer, or who the PROXY protocol says it is.
        if "PROXY_PROTOCOL" not in environ:
            port = environ.get("REMOTE_PORT")
            peer = (environ["REMOTE_ADDR"], port) if port is not None else ""
            if self._trust.peer(peer):
                self._source.apply(environ)
        return self._application(environ, start_response)
