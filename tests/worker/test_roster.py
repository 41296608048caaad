"""What workers know of each other, and what a worker that is replaced makes of it."""

import os
import subprocess
import sys

import pytest

from nti.appserver.worker.imports import unsafe_modules
from nti.appserver.worker.leaving import RESTART, SHUTDOWN, Leaving, Verdict, verdict
from nti.appserver.worker.roster import Entry, Roster, State, waiting_for_predecessor


def entry(roster: Roster, age: int, state: State, *, gone: bool = False) -> Entry:
    """An entry of a process that lives, or that has ended."""
    made = roster.add(age)
    made.pid, made.state = ended_process() if gone else os.getpid(), state
    return made


def ended_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ([State.BOOTING, State.BOOTING], Verdict.WAIT),
        ([State.BOOTING, State.SERVING], Verdict.WAIT),
        ([State.SERVING, State.SERVING], Verdict.RESTART),
        ([State.WAITING, State.BOOTING], Verdict.RESTART),
        ([State.FAILED, State.BOOTING], Verdict.WAIT),
        ([State.FAILED, State.SERVING], Verdict.STAY),
        ([State.FAILED, State.FAILED], Verdict.STAY),
        ([State.LEAVING, State.BOOTING], Verdict.SHUTDOWN),
    ],
)
def test_verdict_on_two_replacements(states: list[State], expected: Verdict) -> None:
    roster = Roster(8)
    entries = [entry(roster, age, state) for age, state in enumerate(states, 3)]
    assert verdict(entries, 2) is expected


def test_a_replacement_that_was_killed_while_it_started_has_failed() -> None:
    roster = Roster(8)
    assert verdict([entry(roster, 2, State.BOOTING, gone=True)], 1) is Verdict.STAY


def test_a_replacement_that_has_served_and_gone_counts() -> None:
    roster = Roster(8)
    assert verdict([entry(roster, 2, State.SERVING, gone=True)], 1) is Verdict.RESTART


class Log:
    def __init__(self) -> None:
        self.errors: list[str] = []

    def error(self, message: str) -> None:
        self.errors.append(message)


def test_without_replacements_sigterm_is_a_shutdown() -> None:
    roster = Roster(8)
    roster.wanted = 2
    mine, sibling = (entry(roster, age, State.SERVING) for age in (1, 2))
    reasons: list[str] = []
    Leaving(mine, roster, Log(), reasons.append).told()
    assert reasons == [SHUTDOWN]
    assert mine.state is State.LEAVING
    assert sibling.state is State.SERVING


def test_with_replacements_that_serve_sigterm_is_a_restart() -> None:
    import gevent

    roster = Roster(8)
    roster.wanted = 1
    mine = entry(roster, 1, State.SERVING)
    young = entry(roster, 2, State.BOOTING)
    reasons: list[str] = []
    Leaving(mine, roster, Log(), reasons.append).told()
    gevent.sleep(0)
    assert reasons == []
    young.state = State.SERVING
    gevent.wait(timeout=10)
    assert reasons == [RESTART]


def test_a_worker_that_stays_takes_on_the_age_of_those_who_failed() -> None:
    import gevent

    roster = Roster(8)
    roster.wanted = 1
    mine = entry(roster, 1, State.SERVING)
    entry(roster, 2, State.FAILED)
    log = Log()
    leaving = Leaving(mine, roster, log, lambda reason: None)
    leaving.told()
    gevent.sleep(0)
    assert "serves on" in log.errors[0]
    assert mine.age == 1
    roster.younger(1)[0].pid = ended_process()
    gevent.wait(timeout=10)
    assert mine.age == 2


def test_entries_of_ended_processes_are_used_again() -> None:
    roster = Roster(2)
    entry(roster, 1, State.SERVING)
    entry(roster, 2, State.SERVING, gone=True)
    entry(roster, 3, State.SERVING)
    with pytest.raises(RuntimeError, match="more than 2 workers"):
        roster.add(4)
    assert [found.age for found in roster.younger(1)] == [3]
    assert roster.serving() == 2


def test_failures_are_counted_until_a_worker_serves() -> None:
    roster = Roster(2)
    assert [roster.note_failure(), roster.note_failure()] == [1, 2]
    assert not roster.has_served
    roster.note_serving()
    assert roster.has_served
    assert roster.note_failure() == 1


def test_no_reader_ever_sees_a_state_that_was_not_written() -> None:
    """One process writes as a worker does, this one reads: old or new, and nothing between."""
    done = subprocess.run([sys.executable, "-c", TEAR], capture_output=True, text=True, check=True)
    assert done.stdout == "BOOTING SERVING\n"


#: The two may share one core: then whole turns pass before the reader has seen both.
TEAR = """
import os, signal, time
from nti.appserver.worker.roster import Roster, State
written = Roster(1).add(1)
child = os.fork()
while child == 0:
    written.state = State.BOOTING
    written.state = State.SERVING
seen = set()
began = time.monotonic()
while time.monotonic() < began + 0.5 or len(seen) < 2 and time.monotonic() < began + 30:
    for _ in range(1000):
        seen.add(written.state)
os.kill(child, signal.SIGKILL)
os.waitpid(child, 0)
print(*sorted(state.name for state in seen))
"""


def test_outside_of_a_worker_nothing_waits_for_a_predecessor() -> None:
    with waiting_for_predecessor() as seconds:
        assert seconds == 0


def test_unsafe_modules_are_named_with_what_goes_wrong() -> None:
    import transaction  # noqa: F401

    assert "one transaction" in unsafe_modules()["transaction"]


def test_the_standard_library_and_gevent_are_not_unsafe() -> None:
    code = (
        "import asyncio, concurrent.futures.thread, gevent, gunicorn.arbiter, decimal, logging\n"
        "from nti.appserver.worker.imports import unsafe_modules\nprint(unsafe_modules())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "{}\n"


def test_one_worker_alone_may_end_gunicorn() -> None:
    """gunicorn dies of an exception when a second one asks for its end while it ends."""
    roster = Roster(capacity=2)
    assert [roster.may_end_gunicorn() for _ in range(3)] == [True, False, False]
