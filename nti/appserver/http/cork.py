"""Pieces of a body that follow each other at once share segments.

A piece is given to the kernel before the next is asked for, as :pep:`3333` demands; here with
word that more follows (MSG_MORE in send(2)), for a segment costs more than a piece of a few
kilobytes. The kernel sends segments that are full and keeps the rest. That leaves at the hub's
next turn, which is as soon as the greenlet switches, and with the first piece that is made more
than a millisecond after the last departure. What an application makes within that time before it
computes on for long is sent by the kernel itself: when the peer has acknowledged all before it,
or, where nothing is on its way, after a retransmission timeout, the round trip and 200 ms or more.

`Cork.send` runs in the greenlet of the request. `Pusher` pushes on the hub and must not switch.
"""

import contextlib
import socket
from time import monotonic
from typing import Any

from nti.appserver.http.connection import MORE, READ

#: After the last departure a piece may be kept for so long; a later one leaves at once.
QUICK_SECONDS = 0.001

#: Pieces that are sent at once, at most, before it is tried again whether some can be kept.
MOST_ALONE = 64


class Cork:
    """Sends the pieces of one response after the first.

    :param conn: the `Connection`, of a plain TCP socket.
    """

    __slots__ = ("_alone", "_conn", "_pusher", "_sent_at", "_useless", "kept", "queued")

    def __init__(self, conn: Any) -> None:
        self._conn = conn
        self._pusher: Pusher = conn.listener.server.pusher
        #: When something last left.
        self._sent_at = monotonic()
        #: Pieces since then, which the kernel may keep.
        self.kept = 0
        #: Whether the pusher knows of us.
        self.queued = False
        #: Pieces to send at once: of late there was a switch after each.
        self._alone = 0
        self._useless = 1

    def send(self, data: bytes) -> None:
        """Give a piece to the kernel; switches and raises as `Connection.sendall`."""
        if self._alone:
            self._alone -= 1
            self.send_all(data)
        elif monotonic() - self._sent_at > QUICK_SECONDS:
            self.send_all(data)
        else:
            self._conn.sendall(data, MORE)
            self.kept += 1
            if not self.queued:
                self.queued = True
                self._pusher.add(self)

    def send_all(self, data: bytes) -> None:
        """Send a piece and all that is kept; switches and raises as `Connection.sendall`."""
        self._conn.sendall(data)
        self.kept = 0
        self._sent_at = monotonic()

    def push(self) -> None:
        """Have the kernel send what it keeps; nothing, if the connection is closed."""
        if self.kept == 1:  # no piece has shared a segment with it
            self._useless = self._alone = min(2 * self._useless, MOST_ALONE)
        else:
            self._useless = 1
        self.kept = 0
        self._sent_at = monotonic()
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
        self._feed: Any = None
        if "libuv" not in type(loop).__module__:  # its watchers cannot be fed
            self._feed = loop.async_(priority=loop.MAXPRI).feed

    def add(self, cork: Cork) -> None:
        """Push a cork soon. Not to be called from `Cork.push`: what is fed meanwhile is lost."""
        if not self._corks:
            self._loop.run_callback(self._push)
            if self._feed is not None:
                self._feed(READ, self._push)
        self._corks.append(cork)

    def _push(self) -> None:
        corks, self._corks = self._corks, []
        for cork in corks:
            cork.queued = False
            if cork.kept:
                cork.push()
