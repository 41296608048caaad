"""A WebSocket client for tests: what it receives, and how it ends, to look at.

Blocking sockets and nothing patched: it runs in the process of the tests. One
thread may receive while another sends. The codec is websockets' own, so a test never
compares this package's codec with itself.
"""

import contextlib
import select
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any

from websockets.client import ClientProtocol
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.typing import Origin, Subprotocol
from websockets.uri import parse_uri

#: How long a call waits for the server unless it is told otherwise, seconds.
TIMEOUT_SECONDS = 20.0

#: The largest message that the client takes, bytes.
MAX_MESSAGE = 64 * 1024 * 1024


class HandshakeRefused(AssertionError):
    """The server answered the handshake with something else than a 101.

    :param status: the response's status code.
    :param headers: its headers.
    :param body: its body, as text.
    """

    def __init__(self, status: int, headers: Any, body: str) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        super().__init__(f"handshake refused with {status}: {body}")


class Closed(AssertionError):
    """The WebSocket has ended.

    :param code: of the server's Close frame; 1005 when it gave none, 1006
        when the connection ended without one.
    :param reason: of the same frame.
    """

    def __init__(self, code: int, reason: str) -> None:
        self.code = code
        self.reason = reason
        super().__init__(f"the WebSocket has ended: {code} {reason}")


class WebSocket:
    """One WebSocket, open when the constructor returns; use it as a context manager.

    :param url: `ws://` or `wss://`.
    :param headers: further ones for the request.
    :param unix: the path of a unix socket to connect to instead of the URL's host.
    :param context: for `wss://`.
    :param source_address: where the connection comes from, such as ("127.0.0.9", 0).
    :raises HandshakeRefused: the server did not answer with a 101.
    """

    def __init__(
        self,
        url: str,
        *,
        origin: str | None = None,
        headers: Iterable[tuple[str, str]] = (),
        subprotocols: Sequence[str] = (),
        deflate: bool = False,
        timeout: float = TIMEOUT_SECONDS,
        unix: str | None = None,
        context: ssl.SSLContext | None = None,
        source_address: tuple[str, int] | None = None,
    ) -> None:
        self.timeout = timeout
        self.source_address = source_address
        self._lock = threading.RLock()  # for the codec and for writing, never held while reading
        #: Payloads of the pongs received.
        self.pongs: list[bytes] = []
        self._messages: deque[str | bytes] = deque()
        self._fragments: list[bytes] = []
        self._text = False
        self._response: Response | None = None
        uri = parse_uri(url)
        self.protocol = ClientProtocol(
            uri,
            origin=Origin(origin) if origin is not None else None,
            extensions=[ClientPerMessageDeflateFactory()] if deflate else None,
            subprotocols=[Subprotocol(name) for name in subprotocols] or None,
            max_size=MAX_MESSAGE,
        )
        self.socket = self._connect(uri.host, uri.port, unix)
        if uri.secure:
            context = context if context is not None else ssl.create_default_context()
            self.socket = context.wrap_socket(self.socket, server_hostname=uri.host)
        try:
            self._open(headers)
        except BaseException:
            self.socket.close()
            raise

    def _connect(self, host: str, port: int, unix: str | None) -> socket.socket:
        if unix is None:
            return socket.create_connection((host, port), self.timeout, self.source_address)
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(self.timeout)
        connection.connect(unix)
        return connection

    def _open(self, headers: Iterable[tuple[str, str]]) -> None:
        request = self.protocol.connect()
        for name, value in headers:
            request.headers[name] = value
        self.protocol.send_request(request)
        self._write()
        deadline = time.monotonic() + self.timeout
        while self._response is None:
            self._read(deadline)
        if self._response.status_code != 101:
            body = bytes(self._response.body or b"").decode("utf-8", "replace")
            raise HandshakeRefused(self._response.status_code, self._response.headers, body)

    @property
    def response_headers(self) -> Any:
        """The headers of the 101 response."""
        assert self._response is not None
        return self._response.headers

    @property
    def subprotocol(self) -> str | None:
        """What the server chose of the subprotocols offered."""
        return self.protocol.subprotocol

    def send(self, message: str | bytes) -> None:
        """Send a text (`str`) or a binary message.

        :raises Closed: the server has closed the WebSocket.
        """
        with self._lock:
            if self.protocol.close_rcvd is not None:
                raise self._closed()
            if isinstance(message, str):
                self.protocol.send_text(message.encode())
            else:
                self.protocol.send_binary(message)
            self._write()

    def ping(self, payload: bytes = b"") -> None:
        """Send a Ping; the answers gather in `pongs`."""
        with self._lock:
            self.protocol.send_ping(payload)
            self._write()

    def send_raw(self, data: bytes) -> None:
        """Send bytes as they are, such as a frame that no codec would make."""
        self.socket.sendall(data)

    def receive(self, timeout: float | None = None) -> str | bytes:
        """The next message.

        :param timeout: seconds; the client's own when not given.
        :raises Closed: the WebSocket has ended.
        :raises TimeoutError: nothing came in time.
        """
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        while not self._messages:
            if self.protocol.close_rcvd is not None:
                raise self._closed()
            if not self._read(deadline):
                raise self._closed()
        return self._messages.popleft()

    def wait_for_close(self, timeout: float | None = None) -> Closed:
        """How the server ended the WebSocket; messages before that are dropped."""
        while True:
            try:
                self.receive(timeout)
            except Closed as closed:
                return closed

    def close(self, code: int = 1000, reason: str = "") -> Closed:
        """Close the WebSocket and wait for the server's answer."""
        with self._lock:
            if self.protocol.close_sent is None and self.protocol.close_rcvd is None:
                self.protocol.send_close(code, reason)
                self._write()
        closed = self.wait_for_close()
        self.socket.close()
        return closed

    def abort(self) -> None:
        """End the connection without a word; a thread that receives wakes."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()

    def _received(self, deadline: float) -> bytes:
        if not isinstance(self.socket, ssl.SSLSocket):
            self.socket.settimeout(max(0.001, deadline - time.monotonic()))
            try:
                return self.socket.recv(65536)
            finally:
                self.socket.settimeout(self.timeout)
        # OpenSSL lets no two threads use one connection: wait outside, read inside of the lock.
        poll = select.poll()
        poll.register(self.socket, select.POLLIN)
        while True:
            with self._lock:
                self.socket.settimeout(0)
                try:
                    return self.socket.recv(65536)
                except ssl.SSLWantReadError:
                    pass
                finally:
                    self.socket.settimeout(self.timeout)
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                raise TimeoutError

    def _closed(self) -> Closed:
        received = self.protocol.close_rcvd
        return Closed(received.code, received.reason) if received else Closed(1006, "")

    def _write(self) -> None:
        for data in self.protocol.data_to_send():
            if data:
                self.socket.sendall(data)

    def _read(self, deadline: float) -> bool:
        """Take what the server sends next; False when it has ended the connection."""
        try:
            data = self._received(deadline)
        except ConnectionError:
            data = b""
        except TimeoutError:
            raise TimeoutError("nothing came from the server in time") from None
        with self._lock:
            if data:
                self.protocol.receive_data(data)
            else:
                self.protocol.receive_eof()
            with contextlib.suppress(OSError):
                self._write()  # pongs, and the answer to a Close
            for event in self.protocol.events_received():
                self._take(event)
        if self._response is None and self.protocol.handshake_exc is not None:
            raise self.protocol.handshake_exc
        return bool(data)

    def _take(self, event: Any) -> None:
        if isinstance(event, Response):
            self._response = event
        elif isinstance(event, Frame):
            if event.opcode is Opcode.PONG:
                self.pongs.append(bytes(event.data))
            elif event.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                self._take_data(event)

    def _take_data(self, event: Frame) -> None:
        if event.opcode is not Opcode.CONT:
            self._text = event.opcode is Opcode.TEXT
        self._fragments.append(bytes(event.data))
        if event.fin:
            whole = b"".join(self._fragments)
            self._fragments.clear()
            self._messages.append(whole.decode() if self._text else whole)

    def __enter__(self) -> "WebSocket":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.socket.close()
