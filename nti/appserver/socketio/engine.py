"""Engine.IO on a worker: its sessions, their heartbeat, and what python-socketio asks of it.

The class takes the place of engineio's own server
(`socketio.Server._engineio_server_class`): sessions write straight to their
WebSockets instead of through a queue and a greenlet each, and hold to the
protocol where engineio's do not. Runs in greenlets of the worker.
"""

import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import gevent
from engineio.base_server import BaseServer
from gevent.event import Event
from gevent.pool import Group

from nti.appserver.metrics import Counter, Gauge
from nti.appserver.request_id import KEY
from nti.appserver.settings import Settings
from nti.appserver.socketio.owners import new_sid
from nti.appserver.socketio.packets import CLOSE, MESSAGE, Packet
from nti.appserver.socketio.session import Session
from nti.appserver.websocket.frames import GOING_AWAY, RESTART

logger = logging.getLogger("nti.appserver.socketio")

#: How long a client may take to change from polling to its WebSocket, seconds.
UPGRADE_SECONDS = 10.0

#: How long a worker that ends waits for handlers of events, seconds.
FINISH_SECONDS = 10.0

#: When a worker ends, a session whose handlers are at work stays open for so long, seconds.
RETIRING_SECONDS = 5.0

#: After so many sessions the heartbeat lets other greenlets run.
BATCH = 200

open_sessions = Gauge("appserver_socketio_sessions", "Socket.IO sessions that are open.")
received_messages = Counter(
    "appserver_socketio_messages_received_total", "Engine.IO messages received."
)
sent_messages = Counter("appserver_socketio_messages_sent_total", "Engine.IO messages sent.")


class Engine:
    """The sessions of this worker.

    :param settings: pings, sizes and timeouts.
    """

    async_mode = "gevent"
    reason = BaseServer.reason

    def __init__(self, settings: Settings) -> None:
        self.ping_interval = settings.ping_interval
        self.ping_timeout = settings.ping_timeout
        self.connect_timeout = settings.connect_timeout
        self.max_payload = settings.websocket_message_size
        self.queue_size = settings.websocket_queue_size
        self.handlers: dict[str, Callable[..., Any]] = {}
        self.sessions: dict[str, Session] = {}
        #: The greenlets in which sessions have their messages handled.
        self.handling = Group()
        #: Set when the worker ends: sessions close, and none is opened.
        self.draining = False
        #: The code of the WebSockets' Close frames when it drains.
        self._code = GOING_AWAY
        self.now = time.monotonic
        self._heart: Any = None

    # -- sessions

    def open(self, environ: dict[str, Any]) -> Session:
        """A new session; the caller sends its OPEN packet."""
        session = Session(self, self.generate_id(), self.now())
        session.request_id = environ.get(KEY, "")
        self.sessions[session.sid] = session
        open_sessions.inc()
        self.handlers["connect"](session.sid, environ)
        if self._heart is None:
            self._heart = gevent.spawn(self._beat)
        return session

    def handshake(self, session: Session, *, upgrades: bool) -> Packet:
        """The OPEN packet: what the client must know of this server."""
        data = {
            "sid": session.sid,
            "upgrades": ["websocket"] if upgrades else [],
            "pingInterval": int(self.ping_interval * 1000),
            "pingTimeout": int(self.ping_timeout * 1000),
            "maxPayload": self.max_payload,
        }
        return Packet(0, data)

    def message(self, session: Session, data: str | bytes) -> None:
        """A message came; never switches."""
        received_messages.inc()
        self.handlers["message"](session.sid, data)

    def closed(self, session: Session, reason: str) -> None:
        """A session has ended; its disconnect handlers run after what is under way."""
        if self.sessions.pop(session.sid, None) is not None:
            open_sessions.dec()
            session.enqueue(self.handlers["disconnect"], session.sid, reason)

    def drain(self, reason: str) -> None:
        """Close every session; clients come back to another worker. May switch.

        One whose handlers are at work closes after them, so that the client gets its
        acknowledgements; but within `RETIRING_SECONDS`. Every request under way has this
        called; the first call does the work.
        """
        if self.draining:
            return
        self.draining = True
        if reason == "restart":
            self._code = RESTART
        self.start_timer(RETIRING_SECONDS, self._close_all)
        for session in self._in_batches():
            session.retire(self.reason.SERVER_DISCONNECT, code=self._code)

    def _close_all(self) -> None:
        for session in self._in_batches():
            session.close(self.reason.SERVER_DISCONNECT, last=CLOSE, code=self._code)

    def _in_batches(self) -> Iterator[Session]:
        """Every session; between batches others run."""
        for number, session in enumerate(list(self.sessions.values())):
            yield session
            if number % BATCH == BATCH - 1:
                gevent.sleep(0)

    def finish(self, seconds: float = FINISH_SECONDS) -> None:
        """The worker ends now: close what is open, and wait for the handlers under way.

        Their units of work need the database, which is closed next.
        """
        self.drain("shutdown")
        self._close_all()
        self.handling.join(seconds)
        if self.handling:
            logger.warning("%d handlers did not end within %.0f s", len(self.handling), seconds)

    def _beat(self) -> None:
        """Check every session a few times in each interval, while there are any."""
        pause = max(0.02, min(1.0, self.ping_interval / 5, self.ping_timeout / 5))
        while self.sessions:
            gevent.sleep(pause)
            for session in self._in_batches():
                session.check(self.now())
        self._heart = None

    # -- what python-socketio calls

    def on(self, event: str, handler: Callable[..., Any]) -> None:
        self.handlers[event] = handler

    def send(self, sid: str, data: str | bytes) -> None:
        self.send_packet(sid, Packet(MESSAGE, data=data))

    def send_packet(self, sid: str, packet: Packet) -> None:
        """Send to one session, if it is still there; never switches."""
        session = self.sessions.get(sid)
        if session is not None:
            sent_messages.inc()
            session.send(packet)

    def disconnect(self, sid: str) -> None:
        session = self.sessions.get(sid)
        if session is not None:
            session.close(self.reason.SERVER_DISCONNECT, last=CLOSE)

    def transport(self, sid: str) -> str:
        return self.sessions[sid].transport

    def get_session(self, sid: str) -> dict[str, Any]:
        return self.sessions[sid].session

    def save_session(self, sid: str, session: dict[str, Any]) -> None:
        self.sessions[sid].session = session

    def generate_id(self) -> str:
        """See `owners.new_sid`."""
        return new_sid()

    def start_background_task(self, target: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return gevent.spawn(target, *args, **kwargs)

    def start_timer(self, seconds: float, function: Callable[..., object]) -> Any:
        """Have `function()` called later in a greenlet, which is returned and may be killed."""
        return gevent.spawn_later(seconds, function)

    def sleep(self, seconds: float = 0) -> None:
        gevent.sleep(seconds)

    def create_event(self) -> Event:
        return Event()

    def shutdown(self) -> None:
        """Close every session."""
        self.drain("shutdown")
