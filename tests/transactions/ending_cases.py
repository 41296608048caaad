"""What goes wrong while a unit of work ends: effects, hooks, synchronizers and data managers that
time out or are killed. `test_greenlets` runs these in a patched process.
"""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import gevent.event
import pytest
import transaction
from transaction.interfaces import TransientError

from nti.appserver.transactions import (
    connection,
    on_abort,
    on_commit,
    run,
)
from nti.appserver.transactions.instruments import EFFECTS_FAILED, LEASES

from .waiting import Waiting

Stored = Callable[[str], Any]


@pytest.fixture(autouse=True)
def _nothing_is_left_behind(database: Any) -> Iterator[None]:
    yield
    assert LEASES.value == 0, "a connection was not given back"
    assert transaction.manager.manager._txn is None
    with gevent.Timeout(20):
        run(put, "still", "usable")  # no lock was left behind


def put(name: str, value: Any) -> None:
    connection().root()[name] = value


def time_out(*_: Any) -> None:
    """Fail as whoever bounds its own waiting does."""
    with gevent.Timeout(0.001):
        gevent.sleep(20)


def stop(*_: Any) -> None:
    raise gevent.GreenletExit


class Failing(Waiting):
    """A data manager that fails in one phase."""

    def __init__(self, phase: str, fail: Callable[..., Any], key: str) -> None:
        super().__init__("", key)
        self._failing, self._fail = phase, fail

    def __getattr__(self, name: str) -> Any:
        asked = super().__getattr__(name)
        return self._fail if name == self._failing else asked


def conflict(*_: Any) -> None:
    raise TransientError("in vote")


@pytest.mark.parametrize("fail", [time_out, stop])
def test_an_effect_that_times_out_fails_neither_the_others_nor_the_unit_of_work(
    fail: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[str] = []
    failed = EFFECTS_FAILED.value

    def work() -> str:
        on_commit(fail)
        on_commit(seen.append, "the next")
        return "done"

    assert run(work) == "done"
    assert seen == ["the next"]
    assert EFFECTS_FAILED.value == failed + 1
    assert "failed, of " in caplog.text


def test_an_effect_that_ends_the_process_ends_it_after_the_others(stored: Stored) -> None:
    seen: list[str] = []

    def leave() -> None:
        raise SystemExit(3)

    def work() -> None:
        put("x", 1)
        on_commit(leave)
        on_commit(seen.append, "the next")

    with pytest.raises(SystemExit):
        run(work)
    assert (seen, stored("x")) == (["the next"], 1)


def test_effects_of_others_transactions_go_on_though_they_are_killed() -> None:
    reached, go_on = gevent.event.Event(), gevent.event.Event()
    seen: list[str] = []

    def wait() -> None:
        reached.set()
        go_on.wait(20)

    def work() -> None:
        with transaction.manager:
            on_commit(wait)
            on_commit(seen.append, "the next")

    greenlet = gevent.spawn(work)
    assert reached.wait(20)
    greenlet.kill(block=False)
    gevent.sleep(0)
    go_on.set()
    greenlet.join(20)
    assert seen == ["the next"]


@pytest.mark.parametrize("step", ["abort", "tpc_abort"])
@pytest.mark.parametrize("fail", [time_out, stop])
def test_a_data_manager_that_times_out_keeps_no_other_from_being_undone(
    fail: Callable[..., Any], step: str, stored: Stored
) -> None:
    """Else the database would keep its commit lock for ever."""

    def work() -> None:
        put("x", 1)
        transaction.get().join(Failing(step, fail, key=""))
        transaction.get().join(Failing("tpc_vote", conflict, key="zz"))

    with pytest.raises((TransientError, gevent.Timeout, gevent.GreenletExit)):
        run(work, attempts=1)
    with gevent.Timeout(20):
        run(put, "y", 2)
    assert (stored("x"), stored("y")) == (None, 2)


@pytest.mark.parametrize("fail", [time_out, stop])
def test_a_synchronizer_that_times_out_after_the_commit_changes_nothing(
    fail: Callable[..., Any], stored: Stored
) -> None:
    class Synchronizer:
        def newTransaction(self, tx: Any) -> None:
            pass

        beforeCompletion = newTransaction

        def afterCompletion(self, tx: Any) -> None:
            fail()

    synchronizer = Synchronizer()
    effects: list[str] = []

    def work() -> str:
        put("x", 1)
        on_commit(effects.append, "committed")
        on_abort(effects.append, "aborted")
        transaction.manager.manager.registerSynch(synchronizer)
        return "done"

    try:
        assert run(work) == "done"
    finally:
        transaction.manager.manager.unregisterSynch(synchronizer)
    assert (effects, stored("x")) == (["committed"], 1)


class Hook:
    """A hook that waits, and so may be killed in the middle."""

    def __init__(self) -> None:
        self.attempts = 0
        self.reached, self.go_on = gevent.event.Event(), gevent.event.Event()
        self.ended = False

    def __call__(self, *_: Any) -> None:
        self.reached.set()
        self.go_on.wait(20)
        self.ended = True

    def kill(self, func: Callable[[], Any]) -> Any:
        """Kill a unit of work while the hook waits; what it ended with."""
        greenlet = gevent.spawn(run, func)
        assert self.reached.wait(20)
        greenlet.kill(block=False)
        gevent.sleep(0)
        self.go_on.set()
        greenlet.join(20)
        return greenlet.value


@pytest.mark.parametrize("add", ["addAfterCommitHook", "addBeforeAbortHook", "addAfterAbortHook"])
def test_a_kill_in_a_hook_of_an_attempt_that_failed_is_not_tried_again(
    add: str, stored: Stored
) -> None:
    hook = Hook()

    def work() -> None:
        hook.attempts += 1
        getattr(transaction.get(), add)(hook)
        put("x", 1)
        transaction.get().join(Failing("tpc_vote", conflict, key="zz"))

    assert isinstance(hook.kill(work), gevent.GreenletExit), "the kill was lost"
    assert (hook.attempts, hook.ended, stored("x")) == (1, True, None)


def test_a_kill_in_a_hook_of_an_abort_with_nothing_joined_is_not_tried_again() -> None:
    hook = Hook()

    def work() -> None:
        hook.attempts += 1
        transaction.get().addBeforeAbortHook(hook)
        raise TransientError("told to")

    assert isinstance(hook.kill(work), gevent.GreenletExit), "the kill was lost"
    assert (hook.attempts, hook.ended) == (1, True)


@pytest.mark.parametrize("writes", [False, True])
def test_a_kill_in_a_hook_after_the_commit_is_raised_when_all_is_done(
    writes: bool, stored: Stored
) -> None:
    hook = Hook()

    def work() -> str:
        hook.attempts += 1
        transaction.get().addAfterCommitHook(hook)
        if writes:
            put("x", 1)
        return "done"

    assert isinstance(hook.kill(work), gevent.GreenletExit), "the kill was lost"
    assert (hook.attempts, hook.ended, stored("x")) == (1, True, 1 if writes else None)


def test_a_failing_hook_is_only_logged(stored: Stored, caplog: pytest.LogCaptureFixture) -> None:
    def fail(succeeded: bool) -> None:
        raise ValueError("told to")

    def work() -> str:
        put("x", 1)
        transaction.get().addAfterCommitHook(fail)
        return "done"

    with caplog.at_level(logging.ERROR):
        assert run(work) == "done"
    assert "told to" in caplog.text
    assert stored("x") == 1
