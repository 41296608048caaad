"""The HTTP server of one worker: its main loop, its limits, and draining.

`HTTPServer(worker, settings=..., hooks=...).run()` is all of a worker's life
between boot and end. `run` waits in the main greenlet; `dispatch`, `expire` and
accepting run on the hub and must not switch.
"""

import contextlib
import os
from collections.abc import Callable
from time import monotonic
from typing import Any

import gevent
from gevent.event import Event
from gunicorn.sock import ssl_context

from nti.appserver.handover.names import route
from nti.appserver.http import http2, stock
from nti.appserver.http.body_files import AVAILABLE, BodyFiles
from nti.appserver.http.connection import BUSY, PARKED, READ, Connection, readable
from nti.appserver.http.cork import Pusher
from nti.appserver.http.deadlines import NEVER, Deadlines
from nti.appserver.http.draining import NOTIFY_SECONDS, Draining
from nti.appserver.http.handover import Handover
from nti.appserver.http.hooks import Hooks
from nti.appserver.http.limits import room_for
from nti.appserver.http.listener import Listener
from nti.appserver.http.pool import Pool
from nti.appserver.http.serving import Serving
from nti.appserver.metrics import Counter, Gauge
from nti.appserver.settings import Settings

#: Requests for health that are served although every slot is taken.
RESERVED = 16

#: How often it is said that there is no room for more connections.
TELL_SECONDS = 60.0

FILES = "the limit of open files allows no more; raise it (LimitNOFILE= of systemd, ulimit -n)"

refused = Counter("appserver_requests_refused_total", "Requests answered 503: no slot was free.")
_open: dict[str, Callable[[], float]] = {}
connections_open = Gauge(
    "appserver_connections_open",
    "Client connections, idle and upgraded ones included.",
    function=lambda: _open["open"]() if _open else 0,
)
connections_parked = Gauge(
    "appserver_connections_parked",
    "Client connections that wait for a request, without a greenlet.",
    function=lambda: _open["parked"]() if _open else 0,
)


class HTTPServer:
    """Serves a gunicorn worker's sockets.

    :param worker: gunicorn's, with its application loaded.
    :param settings: limits and timeouts.
    :param hooks: decisions that belong to other rooms.
    """

    def __init__(self, worker: Any, *, settings: Settings, hooks: Hooks | None = None) -> None:
        self.worker = worker
        self.settings = settings
        self.hooks = hooks or Hooks()
        self.log = worker.log
        self.hub = gevent.get_hub()
        self.loop = self.hub.loop
        self.limit = worker.worker_connections
        #: Open connections, idle ones included.
        self.room = room_for(settings.connections)
        self._told_full = -TELL_SECONDS
        if self.room < settings.connections != Settings.connections and self.hooks.first:
            self.log.warning(
                "%s connections at a time for each worker, not %s: %s",
                self.room,
                settings.connections,
                FILES,
            )
        #: Requests that a greenlet works on.
        self.busy = 0
        #: How long a connection may be idle between two requests.
        self.keep_seconds = float(worker.cfg.keepalive)
        #: Connections that have left HTTP.
        self.upgraded = 0
        self.connections: set[Connection] = set()
        self.deadlines: Deadlines[Connection] = Deadlines(self.loop, self.expire)
        self.pusher = Pusher(self.loop)
        wanted = AVAILABLE and settings.body_files > 0 and worker.cfg.sendfile is not False
        self.body_files = BodyFiles(settings.body_files, self.log) if wanted else None
        self._pool = Pool(self.hub, self._escaped)
        self._serving = Serving(self)
        self._wake = Event()
        self.draining = Draining(self)
        stock.distrust_defaults(worker.cfg)
        if settings.client_source == "proxy" and worker.cfg.proxy_protocol == "off":
            self.log.error(
                "client_source is proxy, but gunicorn's proxy_protocol is off: every client has "
                "the address of its proxy; set proxy_protocol to v1, v2 or auto"
            )
        if http2.prepare(worker, settings) and self.hooks.first:
            self.log.warning(
                "http_protocols allows HTTP/2: gunicorn serves a connection in a greenlet, one "
                "request after the other, and Socket.IO's sessions are found in one worker alone; "
                "better end HTTP/2 at the proxy"
            )
        context = ssl_context(worker.cfg) if worker.cfg.is_ssl else None
        self.listeners = [Listener(self, sock, context) for sock in worker.sockets]
        found = route()
        #: None where every worker may serve every request.
        self.handover = Handover(self, found) if found is not None else None

    def run(self) -> None:
        """Serve until the worker is told to stop, finish what is in hand, return."""
        _open["open"] = lambda: len(self.connections)
        _open["parked"] = lambda: max(0, len(self.connections) - self.busy - self.upgraded)
        signalled = self.loop.io(self.worker.PIPE[0], READ) if self.worker.PIPE else None
        if signalled is not None:
            signalled.start(self._signalled)
        self.deadlines.start()
        if self.handover is not None:
            self.handover.start()
        for listener in self.listeners:
            listener.start()
        try:
            while self.worker.alive:
                self.worker.notify()
                self.wait(NOTIFY_SECONDS)
            self.draining.run()
            self.deadlines.stop()
        finally:
            if signalled is not None:
                signalled.stop()
                signalled.close()

    def wake(self) -> None:
        """Have `run` look at once whether the worker still lives. Never switches."""
        self._wake.set()

    def wait(self, seconds: float) -> None:
        """Wait until something has happened that `run` must know of."""
        self._wake.wait(seconds)
        self._wake.clear()

    def _signalled(self) -> None:
        # gunicorn has every signal write a byte here; its handler has run when this returns.
        with contextlib.suppress(OSError):
            os.read(self.worker.PIPE[0], 4096)
        self._wake.set()

    # -- connections, on the hub

    def dispatch(self, conn: Connection, data: bytes) -> None:
        """Hub: have a greenlet serve what has come, or refuse it."""
        conn.state = BUSY
        conn.deadline = NEVER
        conn.buffer = b""
        self.busy += 1
        if self.busy <= self.limit or self._admits(conn, data):
            self._pool.run(self._serving.serve, conn, data)
        else:
            self._refuse(conn, data)

    def dispatch_stock(self, conn: Connection) -> None:
        """Hub: leave the connection to gunicorn's own code, or refuse it."""
        conn.state = BUSY
        conn.deadline = NEVER
        self.busy += 1
        if self.busy <= self.limit:
            self._pool.run(self._serving.stock, conn, b"")
        else:
            self._refuse(conn, b"")

    def _refuse(self, conn: Connection, data: bytes) -> None:
        refused.inc()
        self._pool.run(self._serving.refuse, conn, data)

    def adopt(self, conn: Connection, data: bytes) -> None:
        """Hub: serve a connection whose request another worker has read; without one, park it."""
        self.connections.add(conn)
        if not data:
            self.deadlines.watch(conn, monotonic() + self.keep_seconds)
            return
        conn.state = BUSY
        self.busy += 1
        serve = self._serving.serve_adopted if self.busy <= self.limit else self._serving.refuse
        self._pool.run(serve, conn, data)

    def _admits(self, conn: Connection, data: bytes) -> bool:
        """Whether a request is served although every slot is taken."""
        if self.busy > self.limit + RESERVED:
            return False
        method, path = conn.listener.asked(conn, data)
        return method in ("GET", "HEAD") and self.hooks.is_health(path)

    def expire(self, conn: Connection) -> None:
        """Hub: the connection's deadline has passed."""
        if conn.waiter is not None:
            conn.broken = True
            conn.waiter.throw(TimeoutError("the peer was silent for too long"))
            return
        if conn.state == PARKED and not conn.buffer:
            # It is idle, but the loop may not have got to a request that has come meanwhile.
            readable(conn)
            if conn.state != PARKED or conn.buffer:
                return
        conn.close()

    def full(self) -> bool:
        """Hub: whether no more connections may be open; accepting then pauses."""
        if len(self.connections) < self.room:
            return False
        self._tell_full()
        for listener in self.listeners:
            listener.pause()
        return True

    def _tell_full(self) -> None:
        now = monotonic()
        if now - self._told_full > TELL_SECONDS:
            self._told_full = now
            mend = FILES if self.room < self.settings.connections else "so says `connections`"
            self.log.warning("%s connections are open, others wait: %s", self.room, mend)

    def forget(self, conn: Connection) -> None:
        """The connection is closed."""
        self.connections.discard(conn)
        if self.draining.reason:
            if not self.connections:
                self._wake.set()
        elif len(self.connections) == self.room - 1:
            for listener in self.listeners:
                listener.start()
        else:
            self.hooks.neighbours.note(len(self.connections))
            for listener in self.listeners:
                if listener.deferring:
                    listener.forgot(len(self.connections))

    def _escaped(self, problem: BaseException) -> None:
        self.log.error("Error on a connection", exc_info=problem)

    def kill(self, seconds: float) -> None:
        """End the requests in hand by GreenletExit, and wait for their ends so long."""
        self._pool.kill()
        end = monotonic() + seconds
        while self._pool.running() and monotonic() < end:
            gevent.sleep(0.02)
