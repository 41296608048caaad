"""One client's connection: parked while idle, read on the hub, served in a greenlet.

A parked connection is this object, a raw socket and a read watcher that stays
started; it has no greenlet. `readable` runs on the hub and must not switch: it
receives, and once a head is whole hands the bytes to a pooled greenlet. Should
more arrive meanwhile, the watcher is stopped until the connection parks again.

States: PARKED -> BUSY -> PARKED ...; LINGERING and CLOSED end it. Only the hub
leaves PARKED, only the greenlet that serves leaves BUSY.
"""

import contextlib
import os
import socket
import sys
from collections.abc import Callable
from fcntl import ioctl
from functools import partial
from ssl import SSLWantReadError, SSLWantWriteError
from termios import TIOCOUTQ
from time import monotonic
from typing import Any

import gevent
from gevent import socket as gevent_socket
from greenlet import greenlet

from nti.appserver.http.deadlines import NEVER
from nti.appserver.http.patience import Patience

READ, WRITE = 1, 2
PARKED, BUSY, HANDSHAKE, LINGERING, CLOSED = range(5)

#: Bytes asked of a socket at a time.
RECEIVE_SIZE = 64 * 1024

#: A head that is not whole by then is left to gunicorn's parser, which has its own limits.
HEAD_SIZE = 64 * 1024

#: How long and how much is read after our last bytes, so that no reset overtakes them
#: (RFC 9112, section 9.6).
LINGER_SECONDS = 2.0
LINGER_BYTES = 256 * 1024

END = b"\r\n\r\n"
#: The flag of send(2) that says that more follows; 0 where the system has none.
MORE: int = getattr(socket, "MSG_MORE", 0)

WOULD_BLOCK = (BlockingIOError, SSLWantReadError, SSLWantWriteError)

Address = tuple[Any, ...] | str | bytes


class Connection:
    """A connection and what is known of its peer.

    :param listener: where it was accepted.
    :param sock: non-blocking: a `_socket.socket`, or gevent's SSLSocket.
    :param peer: the peer's address; '' on a unix socket.
    """

    __slots__ = (
        "broken",
        "buffer",
        "deadline",
        "lingered",
        "listener",
        "peer",
        "proxy",
        "seen",
        "slot",
        "sock",
        "state",
        "taken",
        "waiter",
        "watched",
        "watcher",
    )

    def __init__(self, listener: Any, sock: Any, peer: Address) -> None:
        self.listener = listener
        self.sock = sock
        self.peer = peer
        #: What came of a head that is not whole.
        self.buffer = b""
        self.deadline = NEVER
        self.slot = 0
        #: Bytes that were read, and dropped, since our last ones.
        self.lingered = 0
        self.state = PARKED
        #: Whether a request has come before.
        self.seen = False
        #: Whether reading or writing has failed: the peer is gone, or silent for too long.
        self.broken = False
        #: What the PROXY protocol said of the client, gunicorn's `proxy_protocol_info`.
        self.proxy: Any = None
        #: The gevent socket, once one was asked for.
        self.taken: Any = None
        #: The greenlet that waits for the socket.
        self.waiter: Any = None
        self.watched = True
        self.watcher = listener.loop.io(sock.fileno(), READ)
        self.watcher.start(readable, self)

    # -- reading and writing, in the greenlet that serves

    def receive(self, size: int, seconds: float) -> bytes:
        """Wait for the next bytes; b"" at the end.

        :raises TimeoutError: nothing came for `seconds`.
        """
        while True:
            try:
                return self.sock.recv(size)  # type: ignore[no-any-return]
            except SSLWantWriteError:
                self.wait_writable(seconds)
            except WOULD_BLOCK:
                self.wait_readable(seconds)
            except OSError:
                self.broken = True
                raise

    def receive_now(self, size: int) -> bytes:
        """What has come already; b"" if nothing, or at the end."""
        try:
            return self.sock.recv(size)  # type: ignore[no-any-return]
        except WOULD_BLOCK:
            return b""
        except OSError:
            self.broken = True
            raise

    def sendall(self, data: bytes, flags: int = 0) -> None:
        """Send everything; switches where the peer does not take it at once.

        :param flags: of send(2); plain sockets only.
        :raises TimeoutError: the peer took nothing for `send_timeout`, or less than `body_rate`.
        :raises OSError: the peer is gone.
        """
        try:
            sent = self.sock.send(data, flags)
        except WOULD_BLOCK:
            sent = 0
        except OSError:
            self.broken = True
            raise
        if sent < len(data):
            self._send_rest(memoryview(data)[sent:])

    def send_both(self, head: bytes, body: bytes) -> None:
        """`sendall` of both in one go, without copying them together."""
        try:
            sent = self.sock.sendmsg((head, body))
        except WOULD_BLOCK:
            sent = 0
        except OSError:
            self.broken = True
            raise
        if sent < len(head):
            self._send_rest(memoryview(head)[sent:])
            sent = len(head)
        sent -= len(head)
        if sent < len(body):
            self._send_rest(memoryview(body)[sent:])

    def send_file(self, head: bytes, file: Any, size: int) -> None:
        """`send_both` of a head and the `size` bytes of a file; plain sockets only."""
        self.sendall(head, MORE)
        self.sendfile(file, 0, size)

    def _send_rest(self, rest: memoryview) -> None:
        patience = self._patience()
        tls = ready = self.listener.tls is not None
        while rest:
            counted = 0 if ready else self._wait_taken(patience)
            try:
                sent = self.sock.send(rest)
            except WOULD_BLOCK:
                sent = 0
            except OSError:
                self.broken = True
                raise
            ready = tls and sent > 0
            patience.waited(monotonic(), max(0, sent - counted))
            rest = rest[sent:]

    def _wait_taken(self, patience: Patience) -> int:
        """Wait until more can be sent; the bytes that were counted meanwhile.

        A kernel says that it can when a good part of its buffer is free, which takes a slow
        peer long. So when the time is over, what counts is what the peer has taken of it.

        :raises TimeoutError: it was nothing, or too little.
        """
        counted, queued = 0, self._queued()
        while True:
            began = monotonic()
            try:
                self.wait_writable(patience.left)
            except TimeoutError:
                taken = queued - self._queued()
                patience.waited(began, taken)
                if taken <= 0 or patience.left <= 0 or not self.broken:
                    raise
                self.broken = False  # so far only the deadline says so
                counted += taken
                queued -= taken
            else:
                patience.waited(began, 0)
                return counted

    def _queued(self) -> int:
        """Bytes that the kernel still has for the peer; 0 where it does not tell."""
        try:
            answer = ioctl(self.sock.fileno(), TIOCOUTQ, bytes(4))
        except OSError:
            return 0
        return int.from_bytes(answer, sys.byteorder)

    def _patience(self) -> Patience:
        """For a peer that takes what is sent."""
        settings = self.listener.server.settings
        return Patience(settings.send_timeout, settings.body_rate)

    def sendfile(self, file: Any, offset: int, count: int) -> int:
        """Send `count` bytes of an open file without reading them; plain sockets only."""
        patience = self._patience()
        left, counted = count, 0
        while left:
            try:
                sent = os.sendfile(self.sock.fileno(), file.fileno(), offset, left)
            except BlockingIOError:
                counted = self._wait_taken(patience)
                continue
            except ConnectionError:
                self.broken = True
                raise
            if not sent:
                break
            patience.waited(monotonic(), max(0, sent - counted))
            counted = 0
            offset += sent
            left -= sent
        return count - left

    def wait_readable(self, seconds: float) -> None:
        """Switch until there is something to read.

        :raises TimeoutError: there is nothing for `seconds`.
        """
        self._wait(self.watcher, seconds)

    def wait_writable(self, seconds: float) -> None:
        """Switch until something can be written; raises as `wait_readable`."""
        watcher = self.listener.loop.io(self.sock.fileno(), WRITE)
        try:
            self._wait(watcher, seconds)
        finally:
            watcher.close()

    def _wait(self, watcher: Any, seconds: float) -> None:
        if seconds <= 0:
            self.broken = True
            raise TimeoutError("the peer was too slow")
        self.unwatch()
        me = gevent.getcurrent()
        watcher.start(me.switch)
        self.waiter = me
        self.listener.server.deadlines.watch(self, monotonic() + seconds)
        try:
            self.listener.to_hub()
        finally:
            self.waiter = None
            self.deadline = NEVER
            watcher.stop()

    # -- parking

    def unwatch(self) -> None:
        """Stop the read watcher until the connection parks."""
        if self.watched:
            self.watched = False
            self.watcher.stop()

    def park(self, data: bytes, seconds: float) -> None:
        """Leave the connection to the hub, with bytes of a head that is not whole yet."""
        self.buffer = data
        self.listener.server.deadlines.watch(self, monotonic() + seconds)
        self.state = PARKED
        if not self.watched:
            self.watched = True
            self.watcher.start(readable, self)

    def pending(self) -> bool:
        """Whether bytes wait in this process, where no watcher sees them (TLS)."""
        return False

    # -- the end

    def linger(self) -> None:
        """End the stream, then close once the peer has, or after two seconds."""
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.close()
            return
        self.park(b"", LINGER_SECONDS)
        self.state = LINGERING

    def close(self) -> None:
        """Close it, whatever its state. May be called again."""
        if self.state == CLOSED:
            return
        self.state = CLOSED
        self.deadline = NEVER
        self.buffer = b""
        self.watcher.stop()
        self.watcher.close()
        self.listener.server.forget(self)
        with contextlib.suppress(OSError):
            (self.taken or self.sock).close()

    def gevent_socket(self) -> Any:
        """The same connection as a gevent socket; it is made once."""
        if self.taken is None:
            raw = self.sock
            self.taken = gevent_socket.socket(raw.family, raw.type, raw.proto, fileno=raw.detach())
            self.sock = self.taken._sock
        return self.taken


def readable(conn: Connection) -> None:
    """Hub: something came, or the peer has ended. Must not switch."""
    if conn.state:
        _readable_busy(conn)
        return
    try:
        data = conn.sock.recv(RECEIVE_SIZE)
        while conn.pending():
            data += conn.sock.recv(RECEIVE_SIZE)
    except WOULD_BLOCK:
        return  # on TLS a wake-up may carry no data
    except OSError:
        data = b""
    if not data:
        conn.close()
        return
    new, listener = data, conn.listener
    if conn.buffer:
        data = conn.buffer + data
    if data.find(END) > 0 or listener.judge(conn, data, new):
        listener.server.dispatch(conn, data)


def _readable_busy(conn: Connection) -> None:
    if conn.state == BUSY:
        conn.unwatch()  # until it parks: the rest is for the greenlet that serves
    elif conn.state == HANDSHAKE:
        conn.listener.shake(conn)
    elif conn.state == LINGERING:
        try:
            data = conn.sock.recv(RECEIVE_SIZE)
        except WOULD_BLOCK:
            return
        except OSError:
            data = b""
        conn.lingered += len(data)
        if not data or conn.lingered > LINGER_BYTES:
            conn.close()


def switcher(hub: Any) -> Callable[[], Any]:
    """A cheap way for a greenlet to wait: switch to the hub."""
    return partial(greenlet.switch, hub)
