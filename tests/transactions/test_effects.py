"""Effects: after the commit, in order, once each; failing ones fail nothing else."""

import email.message
import logging
import mailbox
from collections.abc import Callable
from pathlib import Path
from queue import Queue
from typing import Any

import pytest
import transaction
from nti.transactions.queue import put_nowait
from repoze.sendmail.delivery import QueuedMailDelivery
from transaction.interfaces import TransientError

from nti.appserver.transactions import connection, on_abort, on_commit, run
from nti.appserver.transactions.effects import LIMIT
from nti.appserver.transactions.instruments import EFFECTS_DONE, EFFECTS_FAILED

from .conftest import Manager, join

Stored = Callable[[str], Any]


def test_effects_happen_after_the_commit_in_order(database: Any, stored: Stored) -> None:
    seen: list[Any] = []

    def work() -> None:
        on_commit(seen.append, 1)
        connection().root()["x"] = 1
        on_commit(lambda: seen.append(stored("x")))
        on_commit(seen.append, 3)
        assert seen == []

    run(work)
    assert seen == [1, 1, 3]


def test_an_effect_happens_once_however_often_its_unit_of_work_is_tried() -> None:
    seen: list[int] = []
    tries: list[int] = []

    def work() -> None:
        tries.append(1)
        on_commit(seen.append, len(tries))
        on_abort(seen.append, -len(tries))
        if len(tries) < 3:
            raise TransientError

    run(work)
    assert seen == [-1, -2, 3]


def test_an_effect_of_a_hook_before_the_commit_happens_though_nothing_else_was_written() -> None:
    seen: list[str] = []

    def work() -> None:
        transaction.get().addBeforeCommitHook(on_commit, (seen.append, "committed"))

    run(work)
    assert seen == ["committed"]


def test_an_effect_of_a_synchronizer_before_the_commit_happens_too() -> None:
    seen: list[str] = []

    class Synchronizer:
        def newTransaction(self, tx: Any) -> None:
            pass

        afterCompletion = newTransaction

        def beforeCompletion(self, tx: Any) -> None:
            on_commit(seen.append, "committed")

    synchronizer = Synchronizer()
    transaction.manager.registerSynch(synchronizer)
    try:
        run(lambda: None)
    finally:
        transaction.manager.unregisterSynch(synchronizer)
    assert seen == ["committed"]


def test_effects_happen_though_there_is_a_hook_after_the_commit(stored: Stored) -> None:
    """`transaction` aborts all data managers when such hooks have run."""
    order: list[str] = []

    def work() -> None:
        connection().root()["x"] = 1
        transaction.get().addAfterCommitHook(lambda succeeded: order.append("hook"))
        on_commit(order.append, "effect")
        on_abort(order.append, "aborted")

    run(work)
    assert (order, stored("x")) == (["hook", "effect"], 1)


@pytest.mark.parametrize("others", [False, True])
def test_an_effect_of_a_hook_after_the_commit_happens(database: Any, others: bool) -> None:
    seen: list[str] = []

    def work() -> None:
        connection().root()["x"] = 1
        transaction.get().addAfterCommitHook(lambda succeeded: on_commit(seen.append, "hook's"))
        if others:
            on_commit(seen.append, "first")

    run(work)
    assert seen == (["first", "hook's"] if others else ["hook's"])


def test_once_the_commit_has_begun_no_effect_is_taken_and_lost() -> None:
    refused: list[str] = []

    class Late(Manager):
        def _asked(self, what: str) -> None:
            try:
                on_commit(print)
            except ValueError:
                refused.append(what)

    run(lambda: transaction.get().join(Late()))
    assert refused == ["tpc_begin", "commit", "tpc_vote", "tpc_finish"]


@pytest.mark.parametrize("how", ["error", "doom", "vote", "finish"])
def test_no_effect_of_a_commit_happens_when_it_aborts(how: str, database: Any) -> None:
    seen: list[str] = []

    def work() -> None:
        on_commit(seen.append, "committed")
        on_abort(seen.append, "aborted")
        if how == "doom":
            transaction.doom()
        elif how != "error":
            join(f"tpc_{how}", ValueError("told to"))
        else:
            raise ValueError("told to")

    if how == "doom":
        run(work)
    else:
        with pytest.raises(Exception, match=r"told to|after the vote"):
            run(work)
    assert seen == ["aborted"]


def test_a_failing_effect_is_logged_and_counted_and_fails_nothing_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    seen: list[int] = []
    before = EFFECTS_DONE.value, EFFECTS_FAILED.value

    def work() -> str:
        on_commit(seen.append, 1)
        on_commit(lambda: 1 // 0)
        on_commit(seen.append, 2)
        return "answer"

    with caplog.at_level(logging.ERROR):
        assert run(work) == "answer"
    assert seen == [1, 2]
    assert (EFFECTS_DONE.value, EFFECTS_FAILED.value) == (before[0] + 2, before[1] + 1)
    assert "ZeroDivisionError" in caplog.text
    assert "work" in caplog.text


def test_savepoints_take_back_the_effects_that_came_after() -> None:
    seen: list[int] = []

    def work() -> None:
        on_commit(seen.append, 1)
        savepoint = transaction.savepoint()
        on_commit(seen.append, 2)
        savepoint.rollback()
        on_commit(seen.append, 3)

    run(work)
    assert seen == [1, 3]


def test_a_rollback_to_before_the_first_effect_takes_back_all() -> None:
    seen: list[int] = []

    def work() -> None:
        savepoint = transaction.savepoint()
        on_commit(seen.append, 1)
        savepoint.rollback()
        on_commit(seen.append, 2)

    run(work)
    assert seen == [2]


def test_where_no_unit_of_work_runs_the_effect_happens_at_once() -> None:
    seen: list[int] = []
    on_commit(seen.append, 1)
    on_abort(seen.append, 2)
    assert seen == [1]
    with pytest.raises(ZeroDivisionError):
        on_commit(lambda: 1 // 0)


def test_an_effect_may_be_a_unit_of_work_itself(database: Any, stored: Stored) -> None:
    def put(value: int) -> None:
        connection().root()["x"] = value
        if value < 3:
            on_commit(run, put, value + 1)

    run(put, 1)
    assert stored("x") == 3


def test_an_effect_of_an_effect_happens_at_once() -> None:
    seen: list[int] = []

    def effect() -> None:
        on_commit(seen.append, 1)
        seen.append(2)

    run(lambda: on_commit(effect))
    assert seen == [1, 2]


@pytest.mark.parametrize("explicit", [True, False])
def test_they_join_transactions_that_others_run(explicit: bool) -> None:
    seen: list[int] = []
    manager = transaction.manager.manager
    manager.explicit = explicit
    try:
        transaction.begin()
        on_commit(seen.append, 1)
        on_commit(seen.append, 2)
        on_abort(seen.append, -1)
        assert seen == []
        transaction.commit()
        assert seen == [1, 2]
        transaction.begin()
        on_commit(seen.append, 3)
        on_abort(seen.append, -3)
        transaction.abort()
        assert seen == [1, 2, -3]
        transaction.begin()
        savepoint = transaction.savepoint()
        on_commit(seen.append, 4)
        savepoint.rollback()
        on_commit(seen.append, 5)
        transaction.commit()
        assert seen == [1, 2, -3, 5]
    finally:
        manager.explicit = False


def test_there_is_a_bound() -> None:
    def work() -> None:
        for _ in range(LIMIT + 1):
            on_commit(print)

    with pytest.raises(OverflowError, match="100,000"):
        run(work)


def test_mail_is_sent_on_commit_once(tmp_path: Path) -> None:
    folder = tmp_path / "mail"
    mailbox.Maildir(folder).close()
    delivery = QueuedMailDelivery(str(folder))
    tries: list[int] = []

    def work() -> None:
        message = email.message.Message()
        message["From"], message["To"], message["Subject"] = "a@x.org", "b@x.org", "Hello"
        message.set_payload("text")
        tries.append(1)
        delivery.send("a@x.org", ["b@x.org"], message)
        if len(tries) < 2:
            raise TransientError

    run(work)
    assert len(tries) == 2
    assert len(list((folder / "new").iterdir())) == 1


@pytest.mark.parametrize(
    "put", [lambda tasks, task: on_commit(tasks.put_nowait, task), put_nowait], ids=["ours", "nti"]
)
def test_tasks_are_queued_on_commit_once(put: Callable[[Any, str], None]) -> None:
    """Those of nti.transactions' own queue as well."""
    tasks: Queue[str] = Queue()
    tries: list[int] = []

    def work() -> None:
        put(tasks, "first")
        put(tasks, "second")
        tries.append(1)
        assert tasks.empty()
        if len(tries) < 2:
            raise TransientError

    run(work)
    assert [tasks.get_nowait(), tasks.get_nowait()] == ["first", "second"]
    assert tasks.empty()
