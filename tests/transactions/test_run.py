"""`run`: begin, commit, abort, try again; on the greenlet's manager or another."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transaction
import ZODB
import zope.event
from nti.transactions.interfaces import AfterTransactionBegan
from persistent.mapping import PersistentMapping
from transaction.interfaces import AlreadyInTransaction, NoTransaction, TransientError
from ZEO.Exceptions import ClientDisconnected
from ZODB.POSException import ConflictError

from nti.appserver.metrics import instruments as metrics
from nti.appserver.settings import Settings
from nti.appserver.transactions import (
    NoUnitOfWork,
    configure,
    connection,
    instruments,
    on_commit,
    run,
    use_database,
)
from nti.appserver.transactions.commit import InDoubt
from nti.appserver.transactions.instruments import (
    ABORTED,
    COMMIT_SECONDS,
    COMMITTED,
    CONFLICTS,
    FAILED,
    UNAVAILABLE,
)
from nti.appserver.transactions.loop import LONGEST_BACKOFF, UnitLoop

from .conftest import join

Stored = Callable[[str], Any]


def put(value: Any) -> Any:
    connection().root()["x"] = value
    return value


def test_what_func_returns_is_returned_once_it_is_committed(stored: Stored) -> None:
    assert run(put, 5) == 5
    assert stored("x") == 5


def test_it_works_with_no_storage_at_all() -> None:
    assert run(lambda a, b: a + b, 1, 2) == 3


def test_without_a_database_connection_says_what_to_do() -> None:
    with pytest.raises(NoUnitOfWork, match="use_database"):
        run(connection)


def test_outside_of_a_unit_of_work_connection_says_what_to_do(database: Any) -> None:
    with pytest.raises(NoUnitOfWork, match="run"):
        connection()


def test_an_error_aborts(stored: Stored) -> None:
    def fail() -> None:
        put(1)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        run(fail)
    assert stored("x") is None


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit, BaseException])
def test_every_base_exception_aborts(stored: Stored, kind: type[BaseException]) -> None:
    def fail() -> None:
        put(1)
        raise kind

    with pytest.raises(kind):
        run(fail)
    assert stored("x") is None


def test_a_transient_error_is_tried_again_as_often_as_attempts_say(database: Any) -> None:
    calls = []

    def fail() -> None:
        calls.append(1)
        raise TransientError

    with pytest.raises(TransientError):
        run(fail)
    assert len(calls) == 3
    calls.clear()
    with pytest.raises(TransientError):
        run(fail, attempts=5)
    assert len(calls) == 5
    configure(Settings(attempts=2))
    calls.clear()
    with pytest.raises(TransientError):
        run(fail)
    assert len(calls) == 2


def test_fewer_attempts_than_one_are_refused() -> None:
    with pytest.raises(ValueError, match="expected 1 or more"):
        run(print, attempts=0)


def test_a_real_conflict_is_tried_again_and_nothing_is_lost(database: Any, stored: Stored) -> None:
    run(put, 0)
    interfered = []

    def increment() -> None:
        root = connection().root()
        root["x"] += 1
        if not interfered:
            interfered.append(1)
            other = transaction.TransactionManager()
            beside = database.open(other)
            beside.root()["x"] += 1
            other.commit()
            beside.close()

    before = CONFLICTS.labels("ConflictError").value
    run(increment)
    assert stored("x") == 2
    assert CONFLICTS.labels("ConflictError").value == before + 1


def test_a_data_manager_may_call_an_error_transient(database: Any) -> None:
    calls = []

    def fail() -> str:
        calls.append(1)
        join().should_retry = lambda error: isinstance(error, KeyError)
        if len(calls) < 2:
            raise KeyError
        return "done"

    assert run(fail) == "done"


def test_other_errors_are_not_tried_again(database: Any) -> None:
    calls = []

    def fail() -> None:
        calls.append(1)
        raise KeyError

    with pytest.raises(KeyError):
        run(fail)
    assert calls == [1]


def test_the_deadline_ends_the_attempts(database: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(Settings(request_deadline=0.1, attempts=100))
    calls = []

    def slow() -> None:
        calls.append(1)
        if len(calls) == 2:
            import nti.appserver.transactions.loop as loop

            now = loop.time.monotonic()
            monkeypatch.setattr(loop.time, "monotonic", lambda: now + 1)
        raise TransientError

    with pytest.raises(TransientError):
        run(slow)
    assert len(calls) == 2


@pytest.mark.parametrize(("timeout", "attempts"), [(0.01, 1), (60, 3)])
def test_a_storage_that_stays_away_is_waited_for_once(
    database: Any, timeout: float, attempts: int
) -> None:
    """Each attempt would wait for `storage_timeout`; a server that is back sooner is tried."""
    configure(Settings(storage_timeout=timeout))
    calls = []

    def wait() -> None:
        calls.append(1)
        time.sleep(0.02)
        raise ClientDisconnected("timed out waiting for connection")

    with pytest.raises(ClientDisconnected):
        run(wait)
    assert len(calls) == attempts


def test_the_backoff_is_random_and_capped(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)

    def fail() -> None:
        raise TransientError

    with pytest.raises(TransientError):
        run(fail, attempts=40)
    assert len(slept) == 39
    assert max(slept) <= LONGEST_BACKOFF
    assert len(set(slept[10:])) > 10, "long waits differ, too"


def test_a_nested_run_joins_and_is_not_tried_again_by_itself(stored: Stored) -> None:
    outer, inner = [], []

    def inside() -> None:
        inner.append(transaction.get())
        put(len(inner))
        if len(inner) < 3:
            raise TransientError

    def outside() -> None:
        outer.append(transaction.get())
        run(inside, attempts=50)

    run(outside)
    assert inner == outer
    assert len(inner) == 3
    assert stored("x") == 3


def test_a_nested_run_on_another_manager_is_a_unit_of_work_of_its_own(stored: Stored) -> None:
    other = transaction.TransactionManager()

    def inside() -> None:
        put("inner")
        assert connection().transaction_manager is other

    def outside() -> None:
        before = connection()
        run(inside, manager=other)
        assert connection() is before
        raise ValueError("outer fails")

    with pytest.raises(ValueError, match="outer fails"):
        run(outside)
    assert stored("x") == "inner"


@pytest.mark.parametrize("written", [False, True])
def test_a_nested_run_joins_the_unit_of_work_of_its_manager_however_far_out(
    database: Any, stored: Stored, written: bool
) -> None:
    other = transaction.TransactionManager()
    order: list[str] = []
    run(put, PersistentMapping())

    def inner(between: Any) -> None:
        mine = stored("x")
        assert mine._p_jar is not between._p_jar
        mine["outer"] = 1
        on_commit(order.append, "outer")
        between["y"] = 2  # no foreign object: its unit of work is around this one
        run(on_commit, order.append, "between", manager=other)

    def middle() -> None:
        root = connection().root()
        run(inner, root)
        assert connection() is root._p_jar
        order.append("middle")

    def outer() -> None:
        if written:
            stored("x")["before"] = 0
        run(middle, manager=other)
        order.append("last")

    run(outer, attempts=1)
    assert order == ["middle", "between", "last", "outer"]
    assert stored("y") == 2
    assert run(lambda: dict(stored("x"))) == {
        "outer": 1,
        **({"before": 0} if written else {}),
    }


def test_the_transaction_is_explicit_and_ends_with_the_unit_of_work() -> None:
    def inside() -> None:
        assert transaction.manager.explicit
        with pytest.raises(AlreadyInTransaction):
            transaction.manager.manager.begin()

    was = transaction.manager.explicit
    run(inside)
    assert transaction.manager.explicit == was


@pytest.mark.parametrize("end", [transaction.commit, transaction.abort])
def test_ending_the_transaction_inside_is_an_error(database: Any, end: Callable[[], None]) -> None:
    with pytest.raises(Exception, match="lifecycle operations"):
        run(end)


def test_work_left_by_others_is_not_thrown_away(database: Any) -> None:
    manager = join()
    with pytest.raises(AlreadyInTransaction, match="commit or abort it"):
        run(put, 1)
    assert manager.asked == []
    transaction.abort()


def test_an_empty_transaction_left_by_others_makes_way(stored: Stored) -> None:
    transaction.begin()
    run(put, 1)
    assert stored("x") == 1


def test_doomed_transactions_abort_and_their_result_is_returned(stored: Stored) -> None:
    def doomed() -> str:
        put(1)
        transaction.doom()
        return "done"

    assert run(doomed) == "done"
    assert stored("x") is None


def test_savepoints_roll_back_what_came_after(stored: Stored) -> None:
    def partly() -> None:
        put("before")
        savepoint = transaction.savepoint()
        put("after")
        savepoint.rollback()

    run(partly)
    assert stored("x") == "before"


@pytest.mark.parametrize("phase", ["tpc_begin", "commit", "tpc_vote"])
def test_a_failure_before_the_vote_is_over_undoes_all(stored: Stored, phase: str) -> None:
    managers = []

    def both() -> None:
        put(len(managers))
        managers.append(join(phase if not managers else "", key="zz"))

    run(both)
    assert stored("x") == 1, "tried again"
    assert "tpc_abort" in managers[0].asked
    assert managers[1].asked == ["tpc_begin", "commit", "tpc_vote", "tpc_finish"]


def test_a_failure_after_the_vote_is_in_doubt_and_never_tried_again(
    database: Any, caplog: pytest.LogCaptureFixture
) -> None:
    calls = []

    def both() -> None:
        calls.append(join("tpc_finish", key="zz"))
        put(1)

    with pytest.raises(InDoubt):
        run(both)
    assert len(calls) == 1
    assert "after the vote" in caplog.text
    run(put, 2)  # no lock was left


def test_an_abort_that_fails_does_not_hide_the_error(database: Any) -> None:
    def fail() -> None:
        join("abort", RuntimeError("in abort"))
        raise ValueError("first")

    with pytest.raises(Exception, match=r"first|in abort"):
        run(fail)
    run(put, 1)


def test_undo_logs_name_the_function(tmp_path: Any) -> None:
    database = ZODB.DB(str(tmp_path / "data.fs"))
    use_database(database)
    run(put, 1)
    assert database.undoInfo()[0]["description"].endswith("test_run.put")
    database.close()


def test_undo_logs_name_the_function_whose_hook_has_written(tmp_path: Any) -> None:
    database = ZODB.DB(str(tmp_path / "data.fs"))
    use_database(database)

    def work() -> None:
        transaction.get().addBeforeCommitHook(put, (1,))

    run(work)
    assert database.undoInfo()[0]["description"].endswith("work")
    database.close()


def test_a_subscriber_that_fails_when_it_begins_leaves_no_transaction(database: Any) -> None:
    def fail(event: Any) -> None:
        if isinstance(event, AfterTransactionBegan):
            raise ZeroDivisionError

    zope.event.subscribers.append(fail)
    try:
        with pytest.raises(ZeroDivisionError):
            run(put, 1)
    finally:
        zope.event.subscribers.remove(fail)
    assert transaction.manager.manager._txn is None


def test_what_it_counts(database: Any) -> None:
    before = COMMITTED.value, ABORTED.value, FAILED.value
    run(put, 1)
    run(transaction.doom)
    with pytest.raises(ZeroDivisionError):
        run(lambda: 1 // 0)
    assert (COMMITTED.value, ABORTED.value, FAILED.value) == tuple(n + 1 for n in before)


def test_a_unit_of_work_that_conflicts_to_the_last_is_counted(database: Any) -> None:
    conflicts = CONFLICTS.labels("TransientError")
    before = UNAVAILABLE.value, conflicts.value
    with pytest.raises(TransientError):
        run(lambda: join("tpc_vote"), attempts=3)
    assert (UNAVAILABLE.value, conflicts.value) == (before[0] + 1, before[1] + 3)


def test_commits_that_write_are_timed(database: Any) -> None:
    before = sum(COMMIT_SECONDS.counts)
    run(lambda: connection().root().get("x"))
    assert sum(COMMIT_SECONDS.counts) == before
    run(put, 1)
    assert sum(COMMIT_SECONDS.counts) == before + 1


def test_every_metric_is_named_in_the_docstring() -> None:
    named = {
        line.partition("{")[0]
        for line in (instruments.__doc__ or "").splitlines()
        if line.startswith("nti_")
    }
    made = [each for each in metrics() if each.name.startswith("nti_transactions_")]
    assert named == {each.name for each in made}
    for each in made:
        labels = f"{{{','.join(each.label_names)}}}" if each.label_names else ""
        assert f"\n{each.name}{labels}\n" in (instruments.__doc__ or "")


SCRIPT = """
import sys
from nti.appserver.storage import open_database
from nti.appserver.transactions import connection, on_commit, run, use_database

def count():
    root = connection().root()
    root["runs"] = root.get("runs", 0) + 1
    on_commit(print, root["runs"])

database = open_database(sys.argv[1])
use_database(database)
run(count)
database.close()
"""


def test_scripts_run_units_of_work(tmp_path: Path) -> None:
    """In a process of their own, with neither a server nor greenlets."""
    command = [sys.executable, "-c", SCRIPT, f"file://{tmp_path}/data.fs"]
    for number in (b"1\n", b"2\n"):
        assert subprocess.run(command, check=True, capture_output=True, timeout=60).stdout == number


def test_a_unit_of_work_may_run_after_another_in_any_order(stored: Stored) -> None:
    for value in range(3):
        run(put, value)
    with pytest.raises(NoTransaction):
        run(lambda: (transaction.abort(), transaction.get()))
    assert stored("x") == 2


def test_the_conflict_itself_is_raised_when_the_attempts_are_over(database: Any) -> None:
    problem = ConflictError("mine")

    def fail() -> None:
        raise problem

    with pytest.raises(ConflictError) as seen:
        run(fail)
    assert seen.value is problem


def test_the_engine_is_the_loop_of_nti_transactions() -> None:
    from nti.transactions.loop import TransactionLoop

    assert issubclass(UnitLoop, TransactionLoop)
    assert UnitLoop.__call__ is TransactionLoop.__call__
