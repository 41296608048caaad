"""Taking a connection away from HTTP, whichever gunicorn worker serves it.

Our worker hands a connection over through `environ["nti.appserver.connection"]`
and is told when the application is done with it. On gunicorn's own gevent
worker the socket is `environ["gunicorn.socket"]`, bytes that came with the
request sit in its parser, and only a StopIteration leaves the connection alone
afterwards (any other answer is written into the stream).

Runs in the greenlet of the request; `take` does not switch.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

CONNECTION_KEY = "nti.appserver.connection"

DrainCallback = Callable[[str], object]


class Connection:
    """A connection that can be taken over.

    :param environ: of the request that asks for it.
    """

    __slots__ = ("_ours", "_reader", "_socket")

    def __init__(self, environ: Mapping[str, Any]) -> None:
        self._ours = environ.get(CONNECTION_KEY)
        self._socket = environ.get("gunicorn.socket")
        self._reader = getattr(environ.get("wsgi.input"), "reader", None)

    def __bool__(self) -> bool:
        """Whether this server's connections can be taken over at all."""
        return self._ours is not None or (
            self._socket is not None and hasattr(self._reader, "unreader")
        )

    def take(self) -> tuple[Any, bytes]:
        """The gevent socket, and the bytes already read from it.

        :raises ServiceUnavailable: too many connections are taken over.
        """
        if self._ours is not None:
            sock, received = self._ours.take_over()
            return sock, bytes(received)
        assert self._reader is not None
        return self._socket, self._reader.unreader.take_buffered()

    def on_drain(self, callback: DrainCallback) -> Callable[[], object]:
        """Have `callback(reason)` called when the worker drains; what is returned cancels it."""
        register = getattr(self._ours, "on_drain", None)
        return register(callback) if register is not None else lambda: None

    def given_back(self, sent: int) -> Iterable[bytes]:
        """What the WSGI callable returns when it is done with a taken connection.

        :param sent: bytes sent on it, for the access log.
        :raises StopIteration: on gunicorn's own worker.
        """
        if self._ours is None:
            raise StopIteration
        told = getattr(self._ours, "took_over", None)
        if told is not None:
            told(101, sent)
        return ()
