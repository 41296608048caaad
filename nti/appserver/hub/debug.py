"""Catching a greenlet switch while a native lock is held, which the rules forbid.

For tests and hunts: each acquisition costs a Python call, each switch another.
"""

import traceback
from types import TracebackType
from typing import Any

import greenlet

from nti.appserver.hub import native

_LOCK, _RLOCK = native.Lock, native.RLock

#: How many native locks each thread holds, by the thread's number.
_held: dict[int, int] = {}


class SwitchWatch:
    """From its making on native locks are watched; from `start` on, switches of the calling thread.

    Make it before the code that makes locks is imported.
    """

    def __init__(self) -> None:
        #: How many watched locks have been made.
        self.locks = 0
        #: Where a switch happened with a lock held: the stack, as text.
        self.violations: list[str] = []
        self._before: Any = None
        native.Lock = self._made(_LOCK)
        native.RLock = self._made(_RLOCK)

    def _made(self, kind: Any) -> Any:
        def make() -> WatchedLock:
            self.locks += 1
            return WatchedLock(kind())

        return make

    def start(self) -> None:
        self._before = greenlet.settrace(self._switched)

    def stop(self) -> None:
        greenlet.settrace(self._before)
        native.Lock, native.RLock = _LOCK, _RLOCK

    def _switched(self, event: str, arguments: Any) -> None:
        if event in ("switch", "throw") and _held.get(native.get_ident()):
            left, _ = arguments  # this is called in the greenlet that has been switched to
            self.violations.append("".join(traceback.format_stack(left.gr_frame, limit=20)))


class WatchedLock:
    """A native lock that counts for its thread."""

    def __init__(self, lock: Any) -> None:
        self._lock = lock

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        taken = bool(self._lock.acquire(blocking, timeout))
        if taken:
            ident = native.get_ident()
            _held[ident] = _held.get(ident, 0) + 1
        return taken

    def release(self) -> None:
        _held[native.get_ident()] -= 1
        self._lock.release()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()
