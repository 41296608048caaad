"""Draining: how a worker that was told to end leaves, and loses no request.

Listening stops, requests in hand end, and every response from now on says
`Connection: close`. What needs care are connections that are idle. A proxy
keeps them, and may be sending a request at the very moment when we close: it
then sees a connection end without an answer, and a request that is not
idempotent it may not send again (nginx answers 502). Nothing in HTTP/1 lets a
server close an idle connection without that race; so a proxy is given the time
to make it improbable:

1. For `PROXY_SECONDS` nothing of a proxy's is closed that we are not asked on.
   Proxies use their connections in turns (HAProxy) or the latest first (nginx).
   Under load each one is soon used, and its response closes it in good order;
   with little load the new connections, which other workers have accepted, are
   the latest, and those of ours lie below them, unused.
2. What is still idle then is closed, after a last look for bytes that came
   since the loop looked. A request that is found is served.

Where others go on serving and take connections over, there is no race at all:
a proxy's idle connections on plain sockets go to them, open as they are.

Other peers are browsers and the like, which send a request again by
themselves: theirs are closed once they have been idle for `CLIENT_SECONDS`.

`run` and what it calls wait in the main greenlet, `_give` in its own; the rest is
called on the hub or in the greenlet that serves, and does not switch.
"""

from collections.abc import Callable
from time import monotonic
from typing import Any

import gevent
from gevent.pool import Pool

from nti.appserver.http.connection import BUSY, PARKED, Connection
from nti.appserver.http.deadlines import NEVER

#: How long a trusted peer's idle connection stays open when the worker drains.
PROXY_SECONDS = 1.0

#: How long any other connection must have been idle to be closed.
CLIENT_SECONDS = 0.5

#: Idle connections that are given to other workers on a restart, and how many at a time.
GIVEN = 2000
AT_A_TIME = 32

#: How long requests may take to end once they were told that the time is over.
KILLED_SECONDS = 1.0

#: How often the arbiter hears that this worker lives.
NOTIFY_SECONDS = 1.0

Callback = Callable[[str], object]


class Draining:
    """What happens once to an `HTTPServer`: its end.

    :param server: the `HTTPServer`.
    """

    def __init__(self, server: Any) -> None:
        self._server = server
        self._callbacks: dict[int, Callback] = {}
        self._next = 0
        #: "restart" or "shutdown" once it has begun.
        self.reason = ""

    def on_drain(self, callback: Callback) -> Callable[[], object]:
        """Call `callback(reason)` in a new greenlet when draining begins; cancels it."""
        if self.reason:
            gevent.spawn(callback, self.reason)
        self._next = key = self._next + 1
        self._callbacks[key] = callback
        return lambda: self._callbacks.pop(key, None)

    def run(self) -> None:
        """Take no new connections, close idle ones, finish requests, up to graceful_timeout."""
        server = self._server
        self.reason = server.hooks.drain_reason()
        server.hooks.neighbours.close()
        for listener in server.listeners:
            # On a restart others go on with the backlog; otherwise closing would reset what is
            # in it, requests included.
            listener.stop(take_backlog=self.reason != "restart")
        if server.handover is not None:
            server.handover.stop()
        now = monotonic()
        for conn in list(server.connections):
            self._shorten(conn, now)
        server.keep_seconds = PROXY_SECONDS  # for responses that have begun without `close`
        for callback in list(self._callbacks.values()):
            gevent.spawn(callback, self.reason)
        if self.reason == "restart" and server.handover is not None:
            self._give_away()
        self._wait(now + server.worker.cfg.graceful_timeout)
        if server.busy or server.upgraded:
            server.log.warning("Worker graceful timeout (pid:%s)", server.worker.pid)
            server.kill(KILLED_SECONDS)
        for conn in list(server.connections):
            conn.close()

    def _give_away(self) -> None:
        """Give proxies' idle connections to other workers; those that none takes stay here."""
        pool = Pool(AT_A_TIME)
        for conn in list(self._server.connections)[:GIVEN]:
            ours = conn.listener.tls is None and conn.listener.trusts(conn.peer)
            if ours and conn.seen and conn.state == PARKED and not conn.buffer:
                conn.state = BUSY  # what comes from now on stays in the kernel
                conn.deadline = NEVER
                pool.spawn(self._give, conn)
        pool.join()

    def _give(self, conn: Connection) -> None:
        try:
            self._server.handover.gives_idle(conn)
        finally:
            if conn.state == BUSY:
                conn.park(b"", PROXY_SECONDS)

    def _wait(self, end: float) -> None:
        server = self._server
        while server.connections and monotonic() < end:
            server.worker.notify()
            server.wait(max(0.0, min(NOTIFY_SECONDS, end - monotonic())))

    def _shorten(self, conn: Connection, now: float) -> None:
        """Bring the end of an idle connection forward."""
        if conn.state != PARKED or conn.buffer:
            return  # a head that has begun to come is a request in hand
        server = self._server
        if conn.listener.trusts(conn.peer):
            end = now + PROXY_SECONDS
        else:
            patience = server.keep_seconds if conn.seen else server.settings.head_timeout
            end = conn.deadline - patience + CLIENT_SECONDS
        if end <= now:
            server.expire(conn)
        else:
            server.deadlines.watch(conn, min(conn.deadline, end))
