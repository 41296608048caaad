"""The bytes of a taken-over connection: reading waits, posting never does.

Runs in greenlets of the worker. One greenlet reads; any greenlet posts or
sends. `post` has no switch between looking at the queue and adding to it, and
that is why it needs no lock: keep it so. What the socket does not take at once
is queued, and a greenlet that lives only while the queue does writes it out.
"""

import contextlib
import socket
from collections import deque
from typing import Any

import gevent
from gevent.event import Event
from gevent.ssl import SSLSocket

#: What libev calls an event of a readable descriptor.
READ = 1

#: Bytes asked of the socket at a time.
RECEIVE_SIZE = 64 * 1024

#: How long and how much is still read from a peer that goes on sending after the end, so that
#: closing does not reset the connection before our last bytes have reached it.
LINGER_SECONDS = 2.0
LINGER_BYTES = 4 * 1024 * 1024


class Transport:
    """One connection.

    :param sock: a gevent socket, plain or TLS, that nobody else uses.
    :param received: bytes that were read from it already.
    :param queue_size: bytes that may wait for a slow peer; a message on top of
        a queue that holds more ends the connection.
    :param send_timeout: seconds in which a peer must take something.
    """

    __slots__ = (
        "_flusher",
        "_queue",
        "_raw",
        "_readable",
        "_received",
        "_socket",
        "lost",
        "overflowed",
        "queue_size",
        "queued",
        "send_timeout",
        "sent",
    )

    def __init__(self, sock: Any, received: bytes, queue_size: int, send_timeout: float) -> None:
        sock.settimeout(None)
        with contextlib.suppress(OSError):  # a unix socket has neither option
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._socket = sock
        # Writing past the TLS layer would send plain text: only a plain socket is used raw.
        self._raw = None if isinstance(sock, SSLSocket) else sock._sock
        self._readable: Any = None
        self._received = received
        self._queue: deque[tuple[bytes, Event | None]] = deque()
        self._flusher: Any = None
        self.queue_size = queue_size
        self.send_timeout = send_timeout
        #: Bytes that wait for the peer.
        self.queued = 0
        #: Bytes handed to the socket.
        self.sent = 0
        #: True once the connection is of no more use.
        self.lost = False
        #: True when it was lost because the peer took too little.
        self.overflowed = False

    def receive(self) -> bytes:
        """Wait for the next bytes; b"" when the peer has ended or the connection is lost."""
        if self._received:
            data, self._received = self._received, b""
            return data
        if self.lost:
            return b""
        try:
            data = self._socket.recv(RECEIVE_SIZE) if self._raw is None else self._receive_raw()
        except OSError:
            data = b""
        if not data:
            self.lost = True
        return data

    def _receive_raw(self) -> bytes:
        """Wait first, then receive: trying before waiting fails nearly every time."""
        assert self._raw is not None
        hub = gevent.get_hub()
        if self._readable is None:
            self._readable = hub.loop.io(self._raw.fileno(), READ)
        while True:
            hub.wait(self._readable)
            try:
                data: bytes = self._raw.recv(RECEIVE_SIZE)
                return data
            except BlockingIOError:
                continue

    def post(self, data: bytes, written: Event | None = None) -> bool:
        """Send `data` or queue it; never switches. False when the connection is lost.

        :param written: set when the socket has taken the last byte, or all is lost.
        """
        if self.lost:
            return False
        if not self._queue:
            data = data[self._send_now(data) :]
            if not data:
                if written is not None:
                    written.set()
                return not self.lost
        elif self.queued + len(data) > self.queue_size:
            self.overflowed = True
            self.abort()
            return False
        self._queue.append((data, written))
        self.queued += len(data)
        if self._flusher is None:
            self._flusher = gevent.spawn(self._flush)
        return True

    def send(self, data: bytes) -> bool:
        """Send `data` and wait until the socket has taken it. False when it was lost."""
        if not self._queue and self._raw is not None and not self.lost:
            taken = self._send_now(data)
            if taken == len(data):
                return not self.lost
            data = data[taken:]
        written = Event()
        return self.post(data, written) and written.wait() and not self.lost

    def _send_now(self, data: bytes) -> int:
        """Give the socket what it takes without waiting; how many bytes that is."""
        if self._raw is None:
            return 0
        try:
            taken: int = self._raw.send(data)
        except BlockingIOError:
            return 0
        except OSError:
            self.abort()
            return len(data)
        self.sent += taken
        return taken

    def _flush(self) -> None:
        """Write the queue out; runs in a greenlet of its own."""
        try:
            while self._queue and not self.lost:
                data, written = self._queue[0]
                view = memoryview(data)
                while view:
                    with gevent.Timeout(self.send_timeout, TimeoutError("send timeout")):
                        taken = self._socket.send(view)
                    view = view[taken:]
                    self.queued -= taken
                    self.sent += taken
                self._queue.popleft()
                if written is not None:
                    written.set()
        except TimeoutError:
            self.overflowed = True
            self.abort()
        except OSError:
            self.abort()
        finally:
            self._flusher = None
            if self.lost:
                self._drop_queue()

    def _drop_queue(self) -> None:
        while self._queue:
            _, written = self._queue.popleft()
            if written is not None:
                written.set()
        self.queued = 0

    def abort(self) -> None:
        """End the connection at once; a greenlet that reads or writes it wakes. Never switches."""
        if not self.lost:
            self.lost = True
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
        if self._flusher is None:
            self._drop_queue()

    def close(self) -> None:
        """End the connection and give back what it holds; nobody may be reading. Never switches.

        The socket itself is closed by whoever has lent it.
        """
        self.abort()
        if self._readable is not None:
            self._readable.close()
            self._readable = None

    def finish(self) -> None:
        """Write what is queued, say that nothing follows, and wait for the peer's end, briefly."""
        flusher = self._flusher
        if flusher is not None:
            flusher.join()
        if self.lost:
            return
        with contextlib.suppress(OSError, ValueError):
            if self._raw is None:
                self._socket._sslobj.shutdown()  # sends close_notify, keeps reading possible
            else:
                self._socket.shutdown(socket.SHUT_WR)
        discarded = len(self._received)
        self._received = b""
        with gevent.Timeout(LINGER_SECONDS, False):
            while discarded < LINGER_BYTES and (data := self.receive()):
                discarded += len(data)
        self.lost = True
