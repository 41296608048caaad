"""What an application gets of its connection, in environ.

`ClientSocket` is `gunicorn.socket`: enough of a socket for gunicorn's code, and
all of one for whoever asks for more. `ClientConnection` is
`nti.appserver.connection`, by which other rooms take a connection over or hear
of draining. Both are used in the greenlet of the request.
"""

from collections.abc import Callable
from typing import Any

from nti.appserver.errors import ServiceUnavailable
from nti.appserver.http.body_files import BodyFile, BodyFiles
from nti.appserver.http.connection import Address, Connection
from nti.appserver.http.cork import Cork

DrainCallback = Callable[[str], object]


class FileEnded(Exception):
    """A file has ended before all of it that was announced had been sent."""

    def __init__(self, sent: int, count: int) -> None:
        super().__init__(f"{sent} of {count} bytes")
        self.sent = sent
        self.count = count


class ClientSocket:
    """The connection's socket; it becomes a real gevent socket when one is needed."""

    __slots__ = ("_conn",)

    def __init__(self, conn: Connection) -> None:
        self._conn = conn

    def recv(self, size: int, flags: int = 0) -> bytes:
        """The next bytes, within `body_timeout`."""
        if flags:
            return self._conn.gevent_socket().recv(size, flags)  # type: ignore[no-any-return]
        return self._conn.receive(size, self._conn.listener.server.settings.body_timeout)

    def sendall(self, data: bytes, flags: int = 0) -> None:
        """Send everything, within `send_timeout` for each part."""
        self._conn.sendall(data)

    def send_both(self, head: bytes, body: bytes) -> None:
        """Send everything of both, without copying them together."""
        self._conn.send_both(head, body)

    @property
    def body_files(self) -> BodyFiles | None:
        """The files of large bodies; None where none is sent from a file."""
        return self._conn.listener.body_files  # type: ignore[no-any-return]

    def send_file(self, head: bytes, file: BodyFile, size: int) -> None:
        """Send everything of both, the file without copying it."""
        self._conn.send_file(head, file, size)

    @property
    def corks(self) -> bool:
        """Whether pieces may share segments."""
        return bool(self._conn.listener.corks)

    def cork(self) -> Cork:
        """What lets the pieces that follow share segments."""
        return Cork(self._conn)

    def send(self, data: bytes, flags: int = 0) -> int:
        """Send everything; its size."""
        self._conn.sendall(data)
        return len(data)

    def sendfile(self, file: Any, offset: int = 0, count: int = 0) -> int:
        """Send a part of an open file.

        :raises FileEnded: it has fewer bytes.
        """
        sent = self._conn.sendfile(file, offset, count)
        if sent < count:
            raise FileEnded(sent, count)
        return sent

    def gettimeout(self) -> float | None:
        return None

    def setblocking(self, flag: bool) -> None:
        """The connection's deadlines stay what they are."""

    def settimeout(self, value: float | None) -> None:
        """The connection's deadlines stay what they are."""

    def fileno(self) -> int:
        return int(self._conn.sock.fileno())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._conn.gevent_socket(), name)


class ClientConnection:
    """One request's connection.

    :param rest: gives the bytes that were read beyond the request.
    """

    __slots__ = ("_callbacks", "_conn", "_rest", "sent", "status", "taken", "trusted")

    def __init__(self, conn: Connection, trusted: bool, rest: Callable[[], bytes]) -> None:
        self._conn = conn
        self._rest = rest
        #: Whether the peer may speak for a client (forwarded_allow_ips, unix sockets).
        self.trusted = trusted
        #: Whether the connection has left HTTP.
        self.taken = False
        self.status = 101
        self.sent = 0
        self._callbacks: list[Callable[[], object]] = []

    @property
    def peer(self) -> Address:
        """The peer's own address, whatever a header says: (host, port), or '' for unix."""
        peer = self._conn.peer
        return peer[:2] if isinstance(peer, tuple) else ""

    def take_over(self) -> tuple[Any, bytes]:
        """Take the connection out of HTTP: its gevent socket, and bytes read already.

        When the application returns, its iterable is closed unread, the access
        log gets its line and the socket is closed. Until then the connection
        counts in `websocket_limit`, not in `worker_connections`.

        :raises ServiceUnavailable: `websocket_limit` is reached; nothing has changed.
        """
        server = self._conn.listener.server
        if server.upgraded >= server.settings.websocket_limit:
            raise ServiceUnavailable("too many open WebSockets", retry_after=1)
        if not self.taken:
            self.taken = True
            server.busy -= 1
            server.upgraded += 1
        self._conn.unwatch()
        return self._conn.gevent_socket(), self._rest()

    def took_over(self, status: int = 101, sent: int = 0) -> None:
        """Say what the access log shows: the status answered and the bytes sent."""
        self.status = status
        self.sent = sent

    def on_drain(self, callback: DrainCallback) -> Callable[[], object]:
        """Call `callback(reason)` in a new greenlet when the worker drains.

        The reason is "restart" or "shutdown". It is called at once where the
        worker drains already, and no more once the request has ended.

        :return: cancels it.
        """
        cancel: Callable[[], object] = self._conn.listener.server.draining.on_drain(callback)
        self._callbacks.append(cancel)
        return cancel

    def end(self) -> None:
        """The request is over."""
        if self._callbacks:
            for cancel in self._callbacks:
                cancel()
            self._callbacks.clear()
        if self.taken:
            server = self._conn.listener.server
            server.busy += 1
            server.upgraded -= 1
