"""Pieces of a body that follow each other at once share segments.

A piece is given to the kernel before the next is asked for, as :pep:`3333` demands; here with
word that more follows (MSG_MORE in send(2)), for a segment costs more than a piece of a few
kilobytes. The kernel sends full segments. The rest leaves with the next piece or as soon as the
greenlet switches; where the application computes on without a switch, the kernel waits for 200 ms
at most (TCP_CORK in tcp(7)).

`send` runs in the greenlet of the request, `_push` on the hub, where it must not switch.
"""

import contextlib
import socket
from time import monotonic
from typing import Any

#: The flag; 0 where the system has none, and each piece leaves by itself.
MORE: int = getattr(socket, "MSG_MORE", 0)

#: A piece that took longer to make leaves at once: the next may take as long.
QUICK_SECONDS = 0.001


class Cork:
    """Sends the pieces of one response.

    :param conn: the `Connection`, of a plain TCP socket.
    """

    __slots__ = ("_conn", "_pushing", "_sent_at")

    def __init__(self, conn: Any) -> None:
        self._conn = conn
        self._pushing: Any = None
        self._sent_at = monotonic()

    def send(self, data: bytes) -> None:
        """Give a piece to the kernel; switches and raises as `Connection.sendall`."""
        if monotonic() - self._sent_at > QUICK_SECONDS:
            self._conn.sendall(data)
        else:
            self._conn.sendall(data, MORE)
            if self._pushing is None or not self._pushing.pending:
                self._pushing = self._conn.listener.loop.run_callback(self._push)
        self._sent_at = monotonic()

    def _push(self) -> None:
        # The connection may have been closed since; then there is nothing left to push.
        with contextlib.suppress(OSError):
            self._conn.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
