"""`environ["wsgi.websocket"]`: one WebSocket as an application sees it.

The interface is gevent-websocket's, so its applications, its `Resource` and
python-engineio run unchanged; `accept`, `post` and what `close` can say beyond
it are ours. One greenlet receives; any number may send, post and close: a
message leaves whole and in turn, because nothing switches between making its
frame and queueing it.
"""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import gevent
from gevent.event import Event
from geventwebsocket.exceptions import WebSocketError

from nti.appserver.errors import Header, HTTPFault
from nti.appserver.metrics import Counter, Gauge
from nti.appserver.websocket import protocol
from nti.appserver.websocket.frames import (
    BINARY,
    CLOSE,
    GOING_AWAY,
    NO_CODE,
    NORMAL,
    PONG,
    RESTART,
    TEXT,
    close_payload,
    frame,
)
from nti.appserver.websocket.handshake import (
    VERSION,
    Handshake,
    agree_on_deflate,
    choose_subprotocol,
    response,
)
from nti.appserver.websocket.protocol import Close, Failure, Ping, Pong, Protocol
from nti.appserver.websocket.takeover import Connection
from nti.appserver.websocket.transport import Transport

#: How long the peer may take to answer our Close frame.
CLOSE_SECONDS = 5.0

#: What WebSocketError says, in gevent-websocket's words.
ALREADY_CLOSED = "Connection is already closed"
SOCKET_DEAD = "Socket is dead"

open_websockets = Gauge("appserver_websockets_open", "WebSockets that are open.")
received_messages = Counter(
    "appserver_websocket_messages_received_total", "WebSocket messages received."
)
sent_messages = Counter("appserver_websocket_messages_sent_total", "WebSocket messages sent.")
closed_websockets = Counter(
    "appserver_websocket_closes_total",
    "WebSockets that have ended, by the code of the first Close frame; 1006: without one.",
    labels=("code",),
)


@dataclass(frozen=True, slots=True)
class Options:
    """What holds for every WebSocket of a middleware.

    :param message_size: the largest message in bytes, after inflating.
    :param queue_size: bytes that may wait for a slow peer.
    :param send_timeout: seconds in which a peer must take something.
    :param deflate: whether messages may be compressed (RFC 7692).
    :param subprotocols: those that the server speaks, its favourite first.
    """

    message_size: int
    queue_size: int
    send_timeout: float
    deflate: bool = False
    subprotocols: tuple[str, ...] = ()


class WebSocket:
    """One WebSocket, from the request that asks for it to its end.

    The handshake is answered when the application first receives or sends, or
    calls `accept`: an application that does none of them answers the request
    as HTTP.
    """

    OPCODE_TEXT, OPCODE_BINARY, OPCODE_PONG = TEXT, BINARY, PONG

    def __init__(
        self,
        environ: dict[str, Any],
        handshake: Handshake,
        connection: Connection,
        options: Options,
    ) -> None:
        self.environ = environ
        self.options = options
        #: What the client offers, its favourite first.
        self.subprotocols = handshake.subprotocols
        #: What the handshake settled on, or None.
        self.subprotocol: str | None = None
        #: Whether the 101 response has been sent.
        self.accepted = False
        #: True once this side can neither send nor receive any more.
        self.closed = False
        #: The first Close frame's code, the peer's or ours; 1006 where there was none.
        self.close_code: int | None = None
        self.close_reason = ""
        #: The answer to give instead of a WebSocket, where the server could not open it.
        self.refusal: HTTPFault | None = None
        #: gevent-websocket's applications look for the server's other clients here.
        self.handler: Any = None
        self._handshake = handshake
        self._connection = connection
        self._transport: Transport | None = None
        self._protocol: Protocol | None = None
        self._events: deque[protocol.Event] = deque()
        self._receiving = False
        self._received: Event | None = None  # set when the greenlet that receives has ended
        self._close_sent = False
        self._close_timer: Any = None
        self._cancel_drain: Callable[[], object] | None = None

    @property
    def path(self) -> str:
        return str(self.environ.get("PATH_INFO", ""))

    @property
    def origin(self) -> str | None:
        return self.environ.get("HTTP_ORIGIN")

    @property
    def version(self) -> str:
        return VERSION

    @property
    def protocol(self) -> str | None:
        """The Sec-WebSocket-Protocol header as the client sent it."""
        return self.environ.get("HTTP_SEC_WEBSOCKET_PROTOCOL")

    @property
    def bytes_sent(self) -> int:
        return self._transport.sent if self._transport is not None else 0

    def accept(self, subprotocol: str | None = None, headers: Iterable[Header] = ()) -> None:
        """Answer the handshake; afterwards the connection is a WebSocket. Never switches.

        :param subprotocol: one that the client offers; the server's favourite
            among them when not given.
        :param headers: further ones for the 101 response, such as Set-Cookie.
        :raises ValueError: `subprotocol` was not offered.
        :raises WebSocketError: the request has been answered as HTTP, or cannot
            become a WebSocket now.
        """
        if self.accepted:
            return
        if self.closed or self.refusal is not None:
            raise WebSocketError("the request has been answered as HTTP")
        if subprotocol is None:
            subprotocol = choose_subprotocol(self.subprotocols, self.options.subprotocols)
        elif subprotocol not in self.subprotocols:
            offered = ", ".join(self.subprotocols) or "none"
            raise ValueError(f"subprotocol: saw {subprotocol!r}, the client offers {offered}")
        try:
            agreed = agree_on_deflate(self._handshake) if self.options.deflate else None
            extensions, deflate = agreed if agreed is not None else ("", None)
            answer = response(
                self._handshake, subprotocol=subprotocol, extensions=extensions, headers=headers
            )
            sock, received = self._connection.take()
        except HTTPFault as refusal:
            self.refusal = refusal
            raise WebSocketError(str(refusal)) from refusal
        self.accepted = True
        self.subprotocol = subprotocol
        options = self.options
        self._protocol = Protocol(options.message_size, deflate)
        self._transport = Transport(sock, received, options.queue_size, options.send_timeout)
        open_websockets.inc()
        self._cancel_drain = self._connection.on_drain(self._drain)
        self._transport.post(answer)

    def decline(self) -> None:
        """The application answers as HTTP; the WebSocket cannot be opened any more."""
        if not self.accepted:
            self.closed = True

    def receive(self) -> str | bytes | None:
        """Wait for the next message: text as `str`, binary as `bytes`.

        None when the WebSocket has ended, whoever ended it and however:
        `close_code` and `close_reason` say.

        :raises WebSocketError: it had ended already, or another greenlet receives.
        """
        if self.closed:
            raise WebSocketError(ALREADY_CLOSED)
        self.accept()
        if self._receiving:
            raise WebSocketError("another greenlet is receiving from this WebSocket")
        self._receiving = True
        try:
            message = self._next_message()
        finally:
            self._receiving = False
            if self._received is not None:
                self._received.set()
        if message is not None:
            received_messages.inc()
        return message

    def _next_message(self) -> str | bytes | None:
        assert self._transport is not None
        assert self._protocol is not None
        events = self._events
        while True:
            while events:
                event = events.popleft()
                if isinstance(event, (str, bytes)):
                    if self._close_sent:
                        continue  # it crossed our Close frame
                    return event
                if isinstance(event, Ping):
                    self._transport.post(frame(PONG, event.payload))
                elif not isinstance(event, Pong):
                    self._end_by(event)
                    return None
            data = self._transport.receive()
            if not data:
                self.closed = True
                return None
            events.extend(self._protocol.receive(data))

    def _end_by(self, event: Close | Failure) -> None:
        """The peer has closed, or has made us close."""
        if not self._close_sent:
            self._send_close(event.code, event.reason)
            self.close_code, self.close_reason = event.code, event.reason
        self.closed = True

    def send(self, message: str | bytes | None, binary: bool | None = None) -> None:
        """Send a message; returns when the system has taken it, so a slow peer slows the sender.

        :param binary: whether it is a binary one; by its type when not given.
        :raises WebSocketError: the WebSocket has ended, or the peer was too slow.
        """
        if self.closed or self._close_sent:
            raise WebSocketError(SOCKET_DEAD)
        if not self.accepted:
            self.accept()
        assert self._protocol is not None
        assert self._transport is not None
        if not isinstance(message, str):
            message = bytes(message or b"")
            opcode = TEXT if binary is False else BINARY
        else:
            opcode = BINARY if binary else TEXT
        if not self._transport.send(self._protocol.encode(message, opcode)):
            raise WebSocketError(SOCKET_DEAD)
        sent_messages.inc()

    def send_frame(self, message: str | bytes | None, opcode: int) -> None:
        """Send one frame (gevent-websocket's name), such as a ping of at most 125 bytes.

        :raises WebSocketError: as `send` does.
        """
        if opcode in (TEXT, BINARY):
            self.send(message, opcode == BINARY)
            return
        payload = message.encode() if isinstance(message, str) else message or b""
        if not self.post(frame(opcode, payload)):
            raise WebSocketError(SOCKET_DEAD)

    def post(self, frame_bytes: bytes) -> bool:
        """Send or queue a frame made by `frames.frame`; never switches. False: it cannot be sent.

        A peer with more than `queue_size` waiting for it loses the connection.
        """
        if self.closed or self._close_sent:
            return False
        self.accept()
        assert self._transport is not None
        sent_messages.inc()
        return self._transport.post(frame_bytes)

    def close(self, code: int = NORMAL, message: str | bytes | None = "") -> None:
        """Send a Close frame; a greenlet that receives gets None when the peer has answered.

        May be called from any greenlet, and again; never switches. A peer that
        does not answer within `CLOSE_SECONDS` loses the connection.

        :raises ValueError: a Close frame may not carry `code`.
        """
        if not self.accepted:
            self.decline()
            return
        reason = message.decode("utf-8", "replace") if isinstance(message, bytes) else message or ""
        self._send_close(code, reason)
        if not self._receiving:
            self.closed = True

    def _send_close(self, code: int, reason: str) -> None:
        if self._close_sent or self.closed:
            return
        assert self._transport is not None
        data = frame(CLOSE, close_payload(code, reason))
        self._close_sent = True
        if self._transport.post(data):
            self.close_code, self.close_reason = code, reason
            self._close_timer = gevent.spawn_later(CLOSE_SECONDS, self._transport.abort)

    def _drain(self, reason: str) -> None:
        """The worker ends; the client should come back to the next one, if there is one."""
        if reason == "restart":
            self.close(RESTART, "the server restarts")
        else:
            self.close(GOING_AWAY, "the server shuts down")

    def keep_at_drain(self) -> None:
        """When the worker ends the caller closes it, in place of this class."""
        cancel, self._cancel_drain = self._cancel_drain, None
        if cancel is not None:
            cancel()

    def finish(self) -> None:
        """End the WebSocket after its application has; waits for the peer, within bounds.

        Afterwards nothing is sent and the socket may be closed.
        """
        assert self._transport is not None
        assert self._protocol is not None
        try:
            self.keep_at_drain()
            self._send_close(NORMAL, "")
            if self._receiving:  # a greenlet that the application has left behind
                self._received = Event()
                self._received.wait()
            while self._close_sent and not (self._protocol.ended or self._transport.lost):
                self._protocol.receive(self._transport.receive())
            self._transport.finish()
        finally:
            self.closed = True
            self._transport.close()
            if self._close_timer is not None:
                self._close_timer.kill(block=False)
            open_websockets.dec()
            code = self.close_code if self.close_code is not None else 1006
            closed_websockets.labels(str(code)).inc()

    def __repr__(self) -> str:
        state = "closed" if self.closed else "open" if self.accepted else "asked for"
        return f"<WebSocket {self.path} {state}>"


__all__ = ["NO_CODE", "Options", "WebSocket", "WebSocketError"]
