"""A Socket.IO client for tests: by polling, by WebSocket, or changing over.

A thread of its own keeps the client alive (it polls, and answers pings), so
tests may take their time. Nothing is patched. Each client is in one namespace.
"""

import base64
import contextlib
import http.client
import json
import queue
import select
import socket
import ssl
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any
from urllib.parse import urlencode, urlsplit

from socketio import packet as sio

from nti.appserver.testing.websocket import TIMEOUT_SECONDS, Closed, WebSocket

SEPARATOR = "\x1e"


class ConnectRefused(AssertionError):
    """The server did not let the client into its namespace.

    :param data: what it said why, as the connect handler gave it.
    """

    def __init__(self, data: Any) -> None:
        self.data = data
        super().__init__(f"the namespace refused: {data}")


class RequestFailed(AssertionError):
    """An Engine.IO request was not answered with 200.

    :param status: of the answer.
    :param body: its text.
    """

    def __init__(self, status: int, body: str) -> None:
        self.status = status
        self.body = body
        super().__init__(f"{status}: {body}")


class Ended(AssertionError):
    """The session is over: `reason` is "disconnect" (the server had the client leave its
    namespace), "close" (Engine.IO's close packet) or what ended the transport."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"the session has ended: {reason}")


class _Change:
    """A change from polling to a WebSocket that is under way."""

    def __init__(self) -> None:
        #: Set by the thread that reads: its poll has ended, and it waits for the other.
        self.polled = threading.Event()
        self.over = threading.Event()


@dataclass(frozen=True)
class Event:
    """An event from the server."""

    name: str
    args: tuple[Any, ...]


class Polling:
    """Engine.IO's long polling: one connection for polls, one for posts.

    :param url: of the site, `http://host:port` or `https://host:port`.
    """

    def __init__(
        self,
        url: str,
        headers: Iterable[tuple[str, str]],
        timeout: float,
        context: ssl.SSLContext | None = None,
        source_address: tuple[str, int] | None = None,
    ) -> None:
        self._url = urlsplit(url)
        self._context = context
        self.headers = dict(headers)
        self._polls = self._connection(timeout, source_address)
        self._posts = self._connection(timeout, source_address)
        self.sid = ""

    def _connection(
        self, timeout: float, source_address: tuple[str, int] | None
    ) -> http.client.HTTPConnection:
        host, port = self._url.hostname or "", self._url.port
        if self._url.scheme == "http":
            return http.client.HTTPConnection(host, port, timeout, source_address)
        return http.client.HTTPSConnection(
            host, port, timeout=timeout, source_address=source_address, context=self._context
        )

    def request(self, method: str, body: str | None = None, **query: str) -> str:
        """One request; the body of its answer.

        :raises RequestFailed: the answer is not a 200.
        """
        fields = {"EIO": "4", "transport": "polling", **({"sid": self.sid} if self.sid else {})}
        connection = self._polls if method == "GET" else self._posts
        target = f"/socket.io/?{urlencode({**fields, **query})}"
        if connection.sock is not None and _has_ended(connection.sock):
            connection.close()  # it is opened anew, as browsers do
        data = body.encode() if body else None
        reused = connection.sock is not None
        try:
            status, text = self._exchange(connection, method, target, data)
        except (ConnectionResetError, BrokenPipeError, http.client.RemoteDisconnected):
            if not reused:
                raise
            # An idle connection that the server closed in this very moment: browsers ask again.
            connection.close()
            status, text = self._exchange(connection, method, target, data)
        if status != 200:
            raise RequestFailed(status, text)
        return text

    def _exchange(
        self, connection: http.client.HTTPConnection, method: str, target: str, data: bytes | None
    ) -> tuple[int, str]:
        connection.request(method, target, data, self.headers)
        response = connection.getresponse()
        return response.status, response.read().decode()

    def receive(self) -> list[str | bytes]:
        """The packets that the next poll brings."""
        pieces = self.request("GET").split(SEPARATOR)
        return [base64.b64decode(p[1:]) if p.startswith("b") else p for p in pieces]

    def send(self, packet: str | bytes) -> None:
        """Post a packet; one at a time."""
        text = packet if isinstance(packet, str) else "b" + base64.b64encode(packet).decode()
        self.request("POST", text)

    def close(self) -> None:
        """End both connections; a poll that waits in another thread ends too."""
        for connection in (self._polls, self._posts):
            connection.auto_open = 0  # the thread that polls does not connect again
            if connection.sock is not None:
                with contextlib.suppress(OSError):
                    connection.sock.shutdown(socket.SHUT_RDWR)
            connection.close()


def _has_ended(connection: socket.socket) -> bool:
    """Whether the server has closed an idle connection; not to be told of an encrypted one."""
    if isinstance(connection, ssl.SSLSocket):
        return False
    # Not with MSG_DONTWAIT alone: Python waits for a socket that has a timeout.
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    try:
        return bool(poll.poll(0)) and connection.recv(1, socket.MSG_PEEK) == b""
    except OSError:
        return True


class SocketIO:
    """One client, in its namespace when the constructor returns; use it as a context manager.

    :param url: of the site, `http://host:port` or `https://host:port`.
    :param transport: "polling", "websocket", or "upgrade" for both, as browsers do it.
    :param auth: what the connect handler gets as its third argument.
    :param headers: further ones for every request.
    :param context: for `https://`.
    :param source_address: where connections come from, such as ("127.0.0.9", 0).
    :raises ConnectRefused: the namespace did not let the client in.
    :raises RequestFailed: Engine.IO did not.
    """

    def __init__(
        self,
        url: str,
        namespace: str = "/",
        *,
        transport: str = "websocket",
        auth: Any = None,
        headers: Iterable[tuple[str, str]] = (),
        timeout: float = TIMEOUT_SECONDS,
        context: ssl.SSLContext | None = None,
        source_address: tuple[str, int] | None = None,
    ) -> None:
        self.url = url
        self.namespace = namespace
        self.timeout = timeout
        self._context = context
        self._source_address = source_address
        self.headers = list(headers)
        #: The namespace's name for this client, and Engine.IO's for its session.
        self.sid = self.engine_sid = ""
        #: Engine.IO's handshake.
        self.handshake: dict[str, Any] = {}
        self._polling: Polling | None = None
        self._websocket: WebSocket | None = None
        self._events: queue.Queue[Event | Ended] = queue.Queue()
        self._acks: dict[int, queue.Queue[list[Any] | Ended]] = {}
        self._calls = 0
        self._connected: queue.Queue[Any] = queue.Queue()
        self._partial: Any = None
        self._ended: Ended | None = None
        self._sending = threading.Lock()  # for packets; held while the transport changes
        self._change: _Change | None = None
        self._thread = threading.Thread(target=self._read, daemon=True)
        try:
            self._open(transport)
            self._thread.start()
            self._send(sio.Packet(sio.CONNECT, auth, namespace=self.namespace))
            if transport == "upgrade":
                self.upgrade()
            self._join()
        except BaseException:
            self.close()
            raise

    @property
    def transport(self) -> str:
        return "polling" if self._websocket is None else "websocket"

    # -- opening

    def _open(self, transport: str) -> None:
        assert transport in ("polling", "websocket", "upgrade"), transport
        if transport == "websocket":
            self._websocket = self._open_websocket()
            first = self._websocket.receive()
        else:
            # A poll is held until there is something, or a ping after 25 seconds.
            self._polling = Polling(self.url, self.headers, 90, self._context, self._source_address)
            first = self._polling.receive()[0]
        assert isinstance(first, str)
        assert first.startswith("0"), first
        self.handshake = json.loads(first[1:])
        self.engine_sid = self.handshake["sid"]
        if self._polling is not None:
            self._polling.sid = self.engine_sid

    def _open_websocket(self, **query: str) -> WebSocket:
        fields = urlencode({"EIO": "4", "transport": "websocket", **query})
        url = "ws" + self.url.removeprefix("http") + "/socket.io/?" + fields
        return WebSocket(
            url,
            headers=self.headers,
            timeout=self.timeout,
            context=self._context,
            source_address=self._source_address,
        )

    def upgrade(self) -> None:
        """Change from polling to a WebSocket while the session is in use, as browsers do.

        What another thread sends meanwhile waits. Where this raises, the client goes on polling.

        :raises HandshakeRefused, Closed: the server does not let it.
        :raises Ended: the session ended before it was done.
        """
        assert self._polling is not None
        assert self._websocket is None, "it has been upgraded"
        websocket = self._open_websocket(sid=self.engine_sid)
        try:
            websocket.send("2probe")
            answer = websocket.receive()
            assert answer == "3probe", answer
            with self._sending:
                self._change_to(websocket)
        except BaseException:
            websocket.abort()
            raise
        self._polling.close()

    def _change_to(self, websocket: WebSocket) -> None:
        """The reader's last poll ends, which the server sees to; then the WebSocket is read."""
        self._change = change = _Change()
        try:
            if self._ended is None and not change.polled.wait(self.timeout):
                raise TimeoutError("the server holds the poll, though a WebSocket was opened")
            if self._ended is not None:
                raise self._ended
            websocket.send("5")
            self._websocket = websocket
        finally:
            self._change = None
            change.over.set()

    def _join(self) -> None:
        answer = self._get(self._connected)
        if isinstance(answer, AssertionError):
            raise answer
        self.sid = answer["sid"]

    # -- sending

    def emit(self, event: str, *args: Any) -> None:
        """Emit an event."""
        self._send(sio.Packet(sio.EVENT, [event, *args], namespace=self.namespace))

    def call(self, event: str, *args: Any, timeout: float | None = None) -> list[Any]:
        """Emit an event and wait for its acknowledgement; the arguments of that.

        :raises TimeoutError: there was none in time.
        :raises Ended: the session ended before.
        """
        answers: queue.Queue[list[Any] | Ended] = queue.Queue()
        self._calls = number = self._calls + 1
        self._acks[number] = answers
        try:
            if self._ended is not None:
                raise self._ended
            packet = sio.Packet(sio.EVENT, [event, *args], namespace=self.namespace, id=number)
            self._send(packet)
            answer = self._get(answers, timeout)
        finally:
            del self._acks[number]
        if isinstance(answer, Ended):
            raise answer
        return list(answer)

    def _send(self, packet: Any) -> None:
        encoded = packet.encode()
        for piece in encoded if isinstance(encoded, list) else [encoded]:
            self.send_packet(piece if isinstance(piece, bytes) else f"4{piece}")

    def send_packet(self, packet: str | bytes) -> None:
        """Send an Engine.IO packet as it is, a wrong one too."""
        with self._sending:  # the reader answers pings, too
            if self._websocket is None:
                assert self._polling is not None
                self._polling.send(packet)
                return
            try:
                self._websocket.send(packet)
            except Closed as closed:
                self._end(f"closed {closed.code}")
                assert self._ended is not None
                raise self._ended from None

    # -- receiving

    def receive(self, timeout: float | None = None) -> Event:
        """The next event.

        :raises Ended: the session is over.
        :raises TimeoutError: nothing came in time.
        """
        event = self._get(self._events, timeout)
        if isinstance(event, Ended):
            self._events.put(event)
            raise event
        assert isinstance(event, Event)
        return event

    def wait_for(self, name: str, timeout: float | None = None) -> tuple[Any, ...]:
        """The arguments of the next event of that name; others are dropped."""
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        while True:
            event = self.receive(max(0.0, deadline - time.monotonic()))
            if event.name == name:
                return event.args

    def wait_for_end(self, timeout: float | None = None) -> str:
        """Why the session has ended; events before that are dropped."""
        while True:
            try:
                self.receive(timeout)
            except Ended as ended:
                return ended.reason

    def pending(self) -> list[Event]:
        """The events that have come and were not received yet."""
        waiting = list(self._events.queue)
        return [event for event in waiting if isinstance(event, Event)]

    def _get(self, source: "queue.Queue[Any]", timeout: float | None = None) -> Any:
        try:
            return source.get(timeout=self.timeout if timeout is None else timeout)
        except queue.Empty:
            raise TimeoutError("nothing came from the server in time") from None

    def _read(self) -> None:
        try:
            while self._ended is None:
                for packet in self._next_packets():
                    self._take(packet)
        except Closed as closed:
            self._end(f"closed {closed.code}")
        except RequestFailed as failed:
            self._end(str(failed))
        except (OSError, http.client.HTTPException) as problem:
            self._end(f"lost: {problem}")
        except (AttributeError, ValueError):
            # What http.client makes of a connection that another thread closes under it.
            if self._ended is None:
                raise

    def _next_packets(self) -> list[str | bytes]:
        if self._websocket is not None:
            return [self._websocket.receive(timeout=24 * 3600)]
        assert self._polling is not None
        packets = self._polling.receive()
        if (change := self._change) is not None:
            change.polled.set()
            change.over.wait()
        return packets

    def _end(self, reason: str) -> None:
        if self._ended is None:
            self._ended = Ended(reason)
            if (change := self._change) is not None:
                change.polled.set()
            for waiting in (self._connected, self._events, *list(self._acks.values())):
                waiting.put(self._ended)

    def _take(self, packet: str | bytes) -> None:
        """Take an Engine.IO packet."""
        if isinstance(packet, bytes):
            if self._partial.add_attachment(packet):
                self._dispatch(self._partial)
        elif packet == "2":
            self.send_packet("3")
        elif packet == "1":
            self._end("close")
        elif packet.startswith("4"):
            decoded = sio.Packet(encoded_packet=packet[1:])
            if decoded.attachment_count:
                self._partial = decoded
            else:
                self._dispatch(decoded)

    def _dispatch(self, packet: Any) -> None:
        """Take a Socket.IO packet."""
        if packet.packet_type == sio.CONNECT:
            self._connected.put(packet.data)
        elif packet.packet_type == sio.CONNECT_ERROR:
            self._connected.put(ConnectRefused(packet.data))
        elif packet.packet_type == sio.DISCONNECT:
            self._end("disconnect")
        elif packet.packet_type in (sio.ACK, sio.BINARY_ACK):
            if (waiting := self._acks.get(packet.id)) is not None:
                waiting.put(packet.data)
        else:
            self._events.put(Event(packet.data[0], tuple(packet.data[1:])))

    # -- the end

    def disconnect(self) -> None:
        """Leave politely."""
        self._send(sio.Packet(sio.DISCONNECT, namespace=self.namespace))
        self.close()

    def close(self) -> None:
        """End the connections without a word."""
        self._end("closed here")
        if self._websocket is not None:
            self._websocket.abort()
        if self._polling is not None:
            self._polling.close()
        if self._thread.ident is not None:  # it was started
            self._thread.join(self.timeout)

    def __enter__(self) -> "SocketIO":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
