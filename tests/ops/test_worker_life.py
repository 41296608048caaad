"""When workers crash, grow and grow old: the decisions, with a clock and processes of the test."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from gunicorn.errors import HaltServer

from nti.appserver.ops.crashes import YOUNG, CrashLoop, Life
from nti.appserver.ops.housekeeping import Lateness
from nti.appserver.ops.recycling import JITTER, Recycling
from nti.appserver.settings import Settings

MIB = 1024 * 1024


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def lived(life: Life, then: Callable[[Life], object] = lambda life: None) -> None:
    """A process that is that worker, does `then`, and is gone."""
    pid = os.fork()
    if not pid:
        try:
            life.enter()
            then(life)
        finally:
            os._exit(0)
    os.waitpid(pid, 0)


def test_workers_that_crash_one_after_the_other_stop_the_site() -> None:
    loop = CrashLoop(3)
    for _ in range(3):
        lived(loop.next_life(), lambda life: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(HaltServer) as stopped:
        loop.next_life()
    assert "3 workers in a row crashed" in stopped.value.reason
    assert stopped.value.exit_status == 3


def test_workers_that_end_as_they_should_are_no_crashes() -> None:
    loop = CrashLoop(3)
    for _ in range(10):
        lived(loop.next_life(), Life.end)


def test_a_worker_that_lived_longer_begins_the_count_anew() -> None:
    clock = Clock()
    loop = CrashLoop(3, clock)
    for _ in range(2):
        lived(loop.next_life())
    old = loop.next_life()
    clock.now += YOUNG + 1
    lived(old)
    for _ in range(3):
        lived(loop.next_life())
    with pytest.raises(HaltServer):
        loop.next_life()


def test_a_site_with_one_worker_that_stays_is_not_stopped() -> None:
    clock = Clock()
    loop = CrashLoop(3, clock)
    steady = loop.next_life()
    steady.enter()  # this very process
    clock.now += YOUNG
    for _ in range(10):
        lived(loop.next_life())


def test_no_limit_is_no_limit() -> None:
    loop = CrashLoop(0)
    for _ in range(20):
        lived(loop.next_life())


def test_a_worker_is_replaced_for_its_memory(tmp_path: Path) -> None:
    reasons: list[str] = []
    recycling = Recycling(Settings(worker_memory=100 * MIB), tmp_path, reasons.append)
    recycling.consider(100 * MIB, 5)
    assert reasons == []
    recycling.consider(150 * MIB, 5)
    recycling.consider(160 * MIB, 10)
    assert reasons == ["its memory of 150 MiB is over the 100 MiB of worker_memory"]


def test_workers_grow_old_at_different_times(tmp_path: Path) -> None:
    ages = set()
    for number in range(20):
        recycling = Recycling(Settings(worker_age=1000), tmp_path / str(number), list)
        assert recycling.reason(0, 1000 * (1 - JITTER) - 1) == ""
        assert recycling.reason(0, 1000 * (1 + JITTER) + 1) != ""
        ages.add(next(age for age in range(890, 1110) if recycling.reason(0, age)))
    assert len(ages) > 5


def test_workers_leave_one_at_a_time(tmp_path: Path) -> None:
    """The turn to leave is held by a process until it ends."""
    settings = Settings(worker_age=1)
    leaving: list[str] = []
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        Recycling(settings, tmp_path, lambda reason: os.write(writer, b"x")).consider(0, 100)
        signal.pause()
    try:
        assert os.read(reader, 1) == b"x"
        recycling = Recycling(settings, tmp_path, leaving.append)
        recycling.consider(0, 100)
        assert leaving == []
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    recycling.consider(0, 100)
    assert len(leaving) == 1


def test_a_worker_without_limits_stays(tmp_path: Path) -> None:
    assert Recycling(Settings(), tmp_path, list).reason(1 << 40, 1e9) == ""


def test_a_blocked_hub_makes_the_worker_unready_until_it_runs_again() -> None:
    lateness = Lateness(0.5)
    lateness.note(0.01, 1.0)
    assert lateness.problem() == ""
    lateness.note(0.9, 2.0)
    assert lateness.problem() == "the hub was kept from running for 0.9 s"
    lateness.note(0.0, 2.1)
    assert lateness.problem() == ""
