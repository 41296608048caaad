"""Turns at a contended object, so that conflicts do not feed on each other.

Optimistic concurrency wastes work where many change one object at once: each
commit makes all others start again, and most give up. So who has conflicted
over an object waits for its turn, in order, before it tries again; and while
somebody has the turn, others that change the object are sent to the queue
instead of spoiling that attempt. Nothing is locked in the storage: other
processes may still interfere, and then there is another attempt.

A unit of work has one turn at most and waits for none while it has one, so
there is no deadlock. `wait_for_turn` is the only place that waits; the mutex
is never held across a wait.
"""

import threading
from collections import deque
from time import monotonic
from typing import Any

from nti.appserver.hub import native
from nti.appserver.transactions.instruments import TURN_WAIT_SECONDS

_mutex = native.Lock()

#: The turns at each contended object, by its oid; the first is under way.
contended: dict[bytes, deque["Turn"]] = {}


class Turn:
    """A place in the queue for one object; `end` passes the turn on."""

    __slots__ = ("_come", "oid")

    def __init__(self, oid: bytes) -> None:
        self.oid = oid
        self._come: Any = threading.Lock()
        self._come.acquire()

    def wait(self, seconds: float) -> bool:
        """Wait for the turn; False: it did not come, and the place is given up."""
        try:
            come: bool = self._come.acquire(timeout=seconds)
        except BaseException:
            self.end()
            raise
        if not come:
            self.end()
        return come

    def come(self) -> None:
        """It is the first in the queue."""
        self._come.release()

    def end(self) -> None:
        """Leave the queue; if the turn was under way the next one comes."""
        with _mutex:
            queue = contended[self.oid]
            first = queue[0] is self
            queue.remove(self)
            if not queue:
                del contended[self.oid]
            elif first:
                queue[0].come()


def wait_for_turn(problem: BaseException | None, deadline: float) -> Turn | None:
    """Wait for the turn at the object that a conflict was over.

    :param problem: the conflict.
    :param deadline: on the monotonic clock; later no turn is waited for.
    :returns: the turn, or None where the conflict names no object, or its time is over.
    """
    oid = getattr(problem, "oid", None)
    if not isinstance(oid, bytes):
        return None
    turn = Turn(oid)
    with _mutex:
        queue = contended.setdefault(oid, deque())
        queue.append(turn)
        if len(queue) == 1:
            turn.come()
    began = monotonic()
    came = turn.wait(max(0.0, deadline - began))
    TURN_WAIT_SECONDS.observe(monotonic() - began)
    return turn if came else None
