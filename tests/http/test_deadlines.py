"""The sweeper: never early, at most a slot late, whatever is moved meanwhile."""

import random
from collections.abc import Callable

import pytest

from nti.appserver.http import deadlines
from nti.appserver.http.deadlines import NEVER, SLOT_SECONDS, Deadlines


class Clock:
    """Time, and the loop whose timer it drives."""

    def __init__(self) -> None:
        self.now = 1000.05
        self._sweep: Callable[[], None] = lambda: None

    def timer(self, after: float, repeat: float) -> "Clock":
        return self

    def start(self, sweep: Callable[[], None]) -> None:
        self._sweep = sweep

    def pass_by(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now += SLOT_SECONDS
            self._sweep()


class Item:
    deadline = NEVER
    slot = 0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(deadlines, "monotonic", lambda: made.now)
    return made


def test_exact_to_a_slot(clock: Clock) -> None:
    draw, wanted, expired = random.Random(1), {}, {}
    wheel: Deadlines[Item] = Deadlines(clock, lambda item: expired.setdefault(item, clock.now))
    wheel.start()
    for _ in range(1000):
        item = Item()
        wanted[item] = clock.now + draw.random() * 20
        wheel.watch(item, wanted[item])
        if draw.random() < 0.3:
            wanted[item] = clock.now + draw.random() * 40  # later or earlier
            wheel.watch(item, wanted[item])
        elif draw.random() < 0.2:
            wanted[item] = item.deadline = NEVER
        if draw.random() < 0.1:
            clock.pass_by(0.1)
    clock.pass_by(60)
    for item, when in wanted.items():
        if when == NEVER:
            assert item not in expired
        else:
            late = expired[item] - when
            assert 0 <= late <= 2 * SLOT_SECONDS, "a slot, and what lies between two sweeps"


def test_a_hub_that_was_held_up_forgets_nobody(clock: Clock) -> None:
    expired: list[Item] = []
    wheel: Deadlines[Item] = Deadlines(clock, expired.append)
    wheel.start()
    items = [Item() for _ in range(50)]
    for n, item in enumerate(items):
        wheel.watch(item, clock.now + n / 10)
    clock.now += 30
    clock.pass_by(SLOT_SECONDS)
    assert sorted(map(id, expired)) == sorted(map(id, items))
