"""Locks that are held across a wait, for greenlets of any hub and native threads together.

gevent's own lose a wake-up when greenlets and native threads contend (seen with gevent 26.9:
free, and everybody waiting for it). These hand themselves to the next in line.

`acquire` switches under a hub and stops the thread elsewhere; `release` does neither.
"""

from collections import deque
from types import TracebackType
from typing import Any

from greenlet import getcurrent

from nti.appserver.hub import native
from nti.appserver.hub.waking import Answer


class WaitingLock:
    """A lock, first come, first served. Whoever holds it may be anybody when it is released."""

    def __init__(self) -> None:
        self._guard = native.Lock()
        self._held = False
        self._line: deque[Answer] = deque()

    def acquire(self, blocking: bool = True) -> bool:
        """Hold the lock; False when it was not free and `blocking` is not set."""
        with self._guard:
            if not self._held:
                self._held = True
                return True
            if not blocking:
                return False
            turn = Answer()
            self._line.append(turn)
        try:
            turn.wait()
        except BaseException:
            self._leave(turn)
            raise
        return True

    def _leave(self, turn: Answer) -> None:
        """The waiter gives up; if its turn has come meanwhile, it is the next one's."""
        with self._guard:
            waiting = turn in self._line
            if waiting:
                self._line.remove(turn)
        if not waiting:
            self.release()

    def release(self) -> None:
        """Hand the lock to the next in line, or let it go.

        :raises RuntimeError: nobody holds it.
        """
        with self._guard:
            if not self._held:
                raise RuntimeError("a lock was released that nobody holds")
            if not self._line:
                self._held = False
                return
            turn = self._line.popleft()
        turn.give(None)

    def locked(self) -> bool:
        return self._held

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


class WaitingRLock(WaitingLock):
    """The same, which its holder, a greenlet or a native thread, may take again."""

    def __init__(self) -> None:
        super().__init__()
        self._owner: Any = None
        self._depth = 0

    def acquire(self, blocking: bool = True) -> bool:
        me = getcurrent()
        if self._owner is not me:
            if not super().acquire(blocking):
                return False
            self._owner = me
        self._depth += 1
        return True

    def release(self) -> None:
        if self._owner is not getcurrent():
            raise RuntimeError("a lock was released by who does not hold it")
        self._depth -= 1
        if not self._depth:
            self._owner = None
            super().release()


class WaitingCondition:
    """A condition with a lock of its own, which its holder may not take again.

    `wait` lets go of the lock while it waits and holds it again when it returns.
    """

    def __init__(self) -> None:
        self._lock = WaitingLock()
        self._waiting: deque[Answer] = deque()

    def wait(self) -> None:
        """Return after a `notify_all`; the caller holds the lock."""
        told = Answer()
        self._waiting.append(told)
        self._lock.release()
        try:
            told.wait()
        finally:
            self._lock.acquire()

    def notify_all(self) -> None:
        """Have all who wait go on, once the caller has let go of the lock, which it holds."""
        while self._waiting:
            self._waiting.popleft().give(None)

    def __enter__(self) -> bool:
        return self._lock.acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._lock.release()
