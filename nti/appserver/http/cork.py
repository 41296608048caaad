"""Pieces of a body that follow each other at once share segments.

A piece is given to the kernel before the next is asked for, as :pep:`3333` demands; here with
word that more follows (MSG_MORE in send(2)), for a segment costs more than a piece of a few
kilobytes. The kernel sends full segments and keeps the rest. That leaves with the next piece, or
at the hub's next turn, which is as soon as the greenlet switches. Where the application computes
on without a switch, the kernel sends it when the peer has acknowledged all before it, or, where
nothing is on its way, after a retransmission timeout: the round trip and 200 ms or more.

`Cork.send` runs in the greenlet of the request. `Pusher` pushes on the hub and must not switch.
"""

import contextlib
import socket
from time import monotonic
from typing import Any

#: The flag; 0 where the system has none.
MORE: int = getattr(socket, "MSG_MORE", 0)

#: A piece that took longer to make leaves at once: the next may take as long.
QUICK_SECONDS = 0.001

#: Pieces that are sent at once, at most, before it is tried again whether some can be kept.
MOST_ALONE = 64

READ = 1


class Cork:
    """Sends the pieces of one response, but the first.

    :param conn: the `Connection`, of a plain TCP socket.
    """

    __slots__ = ("_alone", "_conn", "_pusher", "_sent_at", "_useless", "kept")

    def __init__(self, conn: Any) -> None:
        self._conn = conn
        self._pusher: Pusher = conn.listener.server.pusher
        self._sent_at = monotonic()
        #: Pieces that the kernel may keep.
        self.kept = 0
        #: Pieces to send at once: of late there was a switch after each.
        self._alone = 0
        self._useless = 1

    def send(self, data: bytes) -> None:
        """Give a piece to the kernel; switches and raises as `Connection.sendall`."""
        if self._alone:
            self._alone -= 1
            self._conn.sendall(data)
        elif monotonic() - self._sent_at > QUICK_SECONDS:
            self._conn.sendall(data)
        else:
            self._conn.sendall(data, MORE)
            if not self.kept:
                self._pusher.add(self)
            self.kept += 1
        self._sent_at = monotonic()

    def push(self) -> None:
        """Have the kernel send what it keeps; nothing, if the connection is closed."""
        if self.kept == 1:  # then keeping it was of no use
            self._useless = self._alone = min(2 * self._useless, MOST_ALONE)
        else:
            self._useless = 1
        self.kept = 0
        with contextlib.suppress(OSError):
            self._conn.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class Pusher:
    """Pushes what corks keep, at the hub's next turn.

    The loop has two queues, and serves one to its end before it looks at the other: of callbacks
    (a greenlet that was woken by another) and of events (requests that begin, sockets that are
    ready). A push stands in both: before the greenlet's own next callback, and before all events.

    :param loop: the hub's.
    """

    def __init__(self, loop: Any) -> None:
        self._corks: list[Cork] = []
        self._loop = loop
        self._watcher = loop.async_(priority=loop.MAXPRI)
        self._has_events = "libuv" not in type(loop).__module__  # there nothing can be fed

    def add(self, cork: Cork) -> None:
        """Push a cork soon."""
        if not self._corks:
            self._loop.run_callback(self._push)
            if self._has_events:
                self._watcher.feed(READ, self._push)
        self._corks.append(cork)

    def _push(self) -> None:
        corks, self._corks = self._corks, []
        for cork in corks:
            if cork.kept:
                cork.push()
