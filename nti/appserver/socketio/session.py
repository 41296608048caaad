"""One Engine.IO session: what goes to its client, what comes from it, and its end.

Runs in greenlets of the worker: the WebSocket's own or those of polls and posts
bring packets in, any greenlet sends. `send` never switches, which keeps the
order of packets without a lock. A client's messages are handled one after
another, in a greenlet that lives only while there are some.
"""

import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from gevent.event import Event

from nti.appserver.request_id import set_request_id
from nti.appserver.socketio.packets import (
    CLOSE,
    MESSAGE,
    NOOP,
    PING,
    PONG,
    UPGRADE,
    Incoming,
    Packet,
    PacketError,
    size_of,
    websocket_frame,
)

if TYPE_CHECKING:
    from nti.appserver.socketio.engine import Engine

logger = logging.getLogger("nti.appserver.socketio")

#: Messages of one client that may wait to be handled; then it is read no further.
MAX_WAITING = 64

#: How long a poll is held while an upgrade is under way, seconds.
UPGRADE_POLL_SECONDS = 0.1

Job = tuple[Callable[..., object], tuple[Any, ...]]


class Session:
    """One client.

    :param sid: its name, a secret between it and the server.
    """

    __slots__ = (
        "_held",
        "_jobs",
        "_outbox",
        "_polling",
        "_queued",
        "_room",
        "_running",
        "_wake",
        "awaiting_pong",
        "closed",
        "connect_deadline",
        "deadline",
        "engine",
        "posting",
        "reason",
        "request_id",
        "retiring",
        "session",
        "sid",
        "upgrading",
        "ws",
    )

    def __init__(self, engine: "Engine", sid: str, now: float) -> None:
        self.engine = engine
        self.sid = sid
        #: What the application keeps for this client; python-socketio's `get_session`.
        self.session: dict[str, Any] = {}
        #: The id of the request that opened it, for logs and transactions of its events.
        self.request_id = ""
        #: The WebSocket, once that is the transport.
        self.ws: Any = None
        self.upgrading = False
        self.posting = False
        self.closed = False
        #: Set when it closes after the handlers under way; events that come now are too late.
        self.retiring = False
        self.reason = ""
        #: When the next ping is due, or the pong of the last one.
        self.deadline = now + engine.ping_interval
        self.awaiting_pong = False
        #: When the session ends if it has not joined a namespace; None: it has.
        self.connect_deadline: float | None = now + engine.connect_timeout
        self._outbox: deque[Packet] = deque()
        self._queued = 0
        self._held: list[Packet] | None = None
        self._polling = False
        self._wake: Event | None = None
        self._jobs: deque[Job] = deque()
        self._running = False
        self._room: Event | None = None

    @property
    def transport(self) -> str:
        return "polling" if self.ws is None else "websocket"

    # -- to the client

    def send(self, packet: Packet) -> None:
        """Send a packet, or queue it for the next poll; never switches.

        A client that lets more than `queue_size` bytes gather is closed.
        """
        if self.closed:
            return
        if self._held is not None:
            self._held.append(packet)
        elif self.ws is not None:
            if not self.ws.post(websocket_frame(packet)):
                self.close(self.engine.reason.TRANSPORT_ERROR)
        else:
            self._outbox.append(packet)
            self._queued += size_of(packet)
            if self._queued > self.engine.queue_size:
                logger.warning("session %s: the client is too slow and is closed", self)
                self.close(self.engine.reason.TRANSPORT_ERROR)
            elif self._wake is not None:
                self._wake.set()

    def hold(self) -> None:
        """Keep back what is sent until `take_held`."""
        if self._held is None:
            self._held = []

    def take_held(self) -> list[Packet]:
        """What was kept back, for the caller to send; from now on nothing is."""
        held, self._held = self._held, None
        return held or []

    def poll(self) -> list[Packet]:
        """Wait for packets for a GET request; [NOOP] when the transport changes or ends.

        :raises PacketError: another poll waits already.
        """
        if self._polling:
            self.close(self.engine.reason.TRANSPORT_ERROR, last=CLOSE)
            raise PacketError("two polls at a time")
        if not self._outbox and not self.closed:
            self._polling = True
            self._wake = Event()
            try:
                self._wake.wait(UPGRADE_POLL_SECONDS if self.upgrading else None)
            finally:
                self._polling = False
                self._wake = None
        packets = list(self._outbox)
        self._outbox.clear()
        self._queued = 0
        return packets or [Packet(NOOP)]

    def begin_upgrade(self) -> None:
        """A WebSocket has been opened beside polling: a poll that waits ends."""
        self.upgrading = True
        if self._wake is not None:
            self._wake.set()

    def end_upgrade(self, ws: Any) -> None:
        """From now on the WebSocket is the transport; what has gathered goes there."""
        self.upgrading = False
        if self.closed:
            return
        self.ws = ws
        if self._wake is not None:
            self._wake.set()
        packets, self._outbox = self._outbox, deque()
        self._queued = 0
        for packet in packets:
            if packet.packet_type != NOOP:
                self.send(packet)

    # -- from the client

    def receive(self, packet: Incoming) -> None:
        """Take a packet; may wait while too many of this client's are not handled yet.

        :raises PacketError: a packet that a client may not send.
        """
        if packet.kind == MESSAGE:
            self.engine.message(self, packet.data)
            while len(self._jobs) >= MAX_WAITING and not self.closed:
                self._room = self._room or Event()
                self._room.wait()
        elif packet.kind == PONG:
            self.awaiting_pong = False
            self.deadline = self.engine.now() + self.engine.ping_interval
        elif packet.kind == CLOSE:
            self.close(self.engine.reason.CLIENT_DISCONNECT)
        elif packet.kind not in (UPGRADE, NOOP):
            raise PacketError(f"a client may not send packet type {packet.kind}")

    def enqueue(self, function: Callable[..., object], *args: Any) -> None:
        """Have `function(*args)` called after what was enqueued before; never switches."""
        self._jobs.append((function, args))
        if not self._running:
            self._running = True
            self.engine.handling.spawn(self._run_jobs)

    def _run_jobs(self) -> None:
        set_request_id(self.request_id)
        try:
            while self._jobs:
                function, args = self._jobs[0]
                try:
                    function(*args)
                except Exception:
                    logger.exception("session %s: a handler failed", self)
                finally:
                    self._jobs.popleft()
                    if self._room is not None and len(self._jobs) < MAX_WAITING:
                        self._room.set()
                        self._room = None
        finally:
            self._running = False
            if self._jobs:  # a handler was killed; those behind it still run
                self._running = True
                self.engine.handling.spawn(self._run_jobs)

    # -- time and the end

    def check(self, now: float) -> None:
        """Ping when it is due; close when a pong or a connect is overdue."""
        if self.connect_deadline is not None and now >= self.connect_deadline:
            self.close("connect timeout")
        elif now < self.deadline:
            return
        elif self.awaiting_pong:
            self.close(self.engine.reason.PING_TIMEOUT)
        else:
            self.awaiting_pong = True
            self.deadline = now + self.engine.ping_timeout
            self.send(Packet(PING))

    def close(self, reason: str, *, last: int = NOOP, code: int = 1000) -> None:
        """End the session; its disconnect handlers run in their turn. Never switches.

        :param reason: what they are told.
        :param last: the packet that a poll which waits is answered with.
        :param code: of the WebSocket's Close frame.
        """
        if self.closed:
            return
        self.closed = True
        self.reason = reason
        self._held = None
        if self.ws is not None:
            self.ws.close(code)
        else:
            self._outbox.append(Packet(last))
        if self._wake is not None:
            self._wake.set()
        if self._room is not None:
            self._room.set()
        self.engine.closed(self, reason)

    def retire(self, reason: str, *, code: int) -> None:
        """Close when what has come is handled and acknowledged; never switches.

        :param reason: as for `close`.
        :param code: as for `close`.
        """
        self.retiring = True
        close = partial(self.close, reason, last=CLOSE, code=code)
        if self._running:
            self.enqueue(close)
        else:
            close()

    def __str__(self) -> str:
        """For the log: who knows the whole of `sid` is the client."""
        return f"{self.sid[:13]}..."
