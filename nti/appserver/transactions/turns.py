"""Turns at a contended object, so that conflicts do not feed on each other.

Optimistic concurrency wastes work where many change one object at once: each
commit makes all others start again, and most give up. So who has conflicted
over an object waits for its turn, in order, before it tries again; and while
somebody has the turn, others that change the object are sent to the queue
instead of spoiling that attempt. The other workers of the site take part by
`marks`. Nothing is locked in the storage: processes elsewhere may still
interfere, and then there is another attempt.

A unit of work has one turn at most and waits for none while it has one, so
there is no deadlock. `wait_for_turn` is the only place that waits; the mutex
is never held across a wait.
"""

import threading
from collections import deque
from time import monotonic
from typing import Any

from nti.appserver.hub import native
from nti.appserver.settings import Settings
from nti.appserver.transactions.instruments import TURN_WAIT_SECONDS
from nti.appserver.transactions.marks import Marks, bucket_of, open_marks

_mutex = native.Lock()

#: The turns at each contended object, by its oid; the first is under way.
contended: dict[bytes, deque["Turn"]] = {}


class _Site:
    """The marks that the workers of this site share, where they do."""

    marks: Marks | None = None


_site = _Site()


def share_turns(settings: Settings) -> None:
    """Take turns with the other workers that have the same runtime folder."""
    if _site.marks is not None:
        _site.marks.close()
    _site.marks = open_marks(settings)


def is_contended(oid: bytes) -> bool:
    """Whether somebody has a turn at an object, in this worker or another one of the site."""
    if oid in contended:
        return True
    marks = _site.marks
    return marks is not None and marks.is_set(bucket_of(oid))


class Turn:
    """A place in the queue for one object; `end` passes the turn on."""

    __slots__ = ("_come", "_marks", "oid")

    def __init__(self, oid: bytes) -> None:
        self.oid = oid
        self._marks: Marks | None = None
        self._come: Any = threading.Lock()
        self._come.acquire()

    def wait(self, deadline: float) -> bool:
        """Wait for the turn; False: it did not come, and the place is given up."""
        came = False
        try:
            if self._come.acquire(timeout=max(0.0, deadline - monotonic())):
                came = self._mark(deadline)
        finally:
            if not came:  # a kill while it waits gives up the place, too
                self.end()
        return came

    def _mark(self, deadline: float) -> bool:
        """Wait for the other workers, too, and tell them; False: `deadline` came first."""
        marks = _site.marks
        if marks is None:
            return True
        if not marks.take(bucket_of(self.oid), deadline):
            return False
        self._marks = marks
        return True

    def come(self) -> None:
        """It is the first in the queue."""
        self._come.release()

    def end(self) -> None:
        """Leave the queue; if the turn was under way the next one comes."""
        marks, self._marks = self._marks, None
        if marks is not None:
            marks.give_back(bucket_of(self.oid))
        with _mutex:
            queue = contended[self.oid]
            first = queue[0] is self
            queue.remove(self)
            if not queue:
                del contended[self.oid]
            elif first:
                queue[0].come()


def next_turn(turn: Turn | None, problem: BaseException | None, deadline: float) -> Turn | None:
    """The turn for another attempt; who has one at the same object keeps it.

    What spoiled that attempt had begun before the turn; nobody begins now.
    """
    if turn is not None:
        if turn.oid == getattr(problem, "oid", None):
            return turn
        turn.end()
    return wait_for_turn(problem, deadline)


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
    came = turn.wait(deadline)
    TURN_WAIT_SECONDS.observe(monotonic() - began)
    return turn if came else None
