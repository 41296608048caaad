"""One sweeper for all deadlines of a worker's connections, exact to 100 ms.

A timer wheel that is lazy about moves: setting a later deadline is one store
into the connection, and its entry is looked at again only when the slot it was
first put in comes up. Everything here runs on the hub; nothing may switch
except the expiry that the sweeper calls.
"""

from collections.abc import Callable
from time import monotonic
from typing import Any, Generic, Protocol, TypeVar

#: How long a slot is. A deadline is kept at most two slots late (one until its slot is over, one
#: until the sweeper comes), never early.
SLOT_SECONDS = 0.05

#: No deadline.
NEVER = float("inf")


class Timed(Protocol):
    """What the wheel needs of an object."""

    #: When it expires, in seconds of `time.monotonic`; `NEVER`: it does not.
    deadline: float
    #: The number of the slot that holds its entry, or 0; the wheel's own.
    slot: int


_T = TypeVar("_T", bound=Timed)


class Deadlines(Generic[_T]):
    """Calls `expire(item)` for each item whose deadline has passed.

    :param loop: the hub's event loop.
    """

    def __init__(self, loop: Any, expire: Callable[[_T], object]) -> None:
        self._expire = expire
        self._slots: dict[int, list[_T]] = {}
        self._timer = loop.timer(SLOT_SECONDS, SLOT_SECONDS)
        self._swept = int(monotonic() / SLOT_SECONDS)

    def start(self) -> None:
        """Sweep from now on, every slot."""
        self._timer.start(self._sweep)

    def stop(self) -> None:
        """Sweep no more; the wheel cannot be used again."""
        self._timer.stop()
        self._timer.close()
        self._slots.clear()

    def watch(self, item: _T, deadline: float) -> None:
        """Expire `item` at `deadline`, unless its deadline is moved before."""
        item.deadline = deadline
        slot = int(deadline / SLOT_SECONDS) + 1
        if not item.slot or slot < item.slot:
            self._enter(item, slot)

    def _enter(self, item: _T, slot: int) -> None:
        item.slot = slot = max(slot, self._swept + 1)
        try:
            self._slots[slot].append(item)
        except KeyError:
            self._slots[slot] = [item]

    def _sweep(self) -> None:
        now = monotonic()
        current = int(now / SLOT_SECONDS)
        for slot in range(self._swept + 1, current + 1):
            self._swept = slot
            for item in self._slots.pop(slot, ()):
                if item.slot != slot:
                    continue  # entered again under an earlier slot since
                item.slot = 0
                if item.deadline <= now:
                    self._expire(item)
                elif item.deadline != NEVER:
                    self._enter(item, int(item.deadline / SLOT_SECONDS) + 1)
