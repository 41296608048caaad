"""Turns at contended objects: in order, bounded in time, passed on whatever happens."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

import pytest
import transaction
from persistent import Persistent
from transaction.interfaces import TransientError
from ZODB.POSException import ConflictError

from nti.appserver.testing.process import wait_until
from nti.appserver.transactions import connection, run
from nti.appserver.transactions.instruments import CONFLICTS, LEASES
from nti.appserver.transactions.turns import contended, wait_for_turn


class Counter(Persistent):
    """Something that everybody changes."""

    value = 0


def conflict(oid: bytes = b"\0" * 7 + b"\1") -> ConflictError:
    return ConflictError(oid=oid)


def soon() -> float:
    return monotonic() + 30


@contextmanager
def ending(end: Callable[[], None]) -> Iterator[None]:
    """Another's turn ends a moment after the change within has been refused for it."""
    try:
        yield
    except ConflictError:
        threading.Timer(0.02, end).start()
        raise


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Any:
    yield
    assert not contended


def test_the_first_has_its_turn_at_once() -> None:
    turn = wait_for_turn(conflict(), soon())
    assert turn is not None
    assert list(contended) == [turn.oid]
    turn.end()


@pytest.mark.parametrize("problem", [None, TransientError(), ConflictError()])
def test_a_conflict_over_no_object_has_no_turn(problem: Any) -> None:
    assert wait_for_turn(problem, soon()) is None


def test_a_turn_that_does_not_come_in_time_is_given_up() -> None:
    first = wait_for_turn(conflict(), soon())
    assert first is not None
    assert wait_for_turn(conflict(), monotonic() + 0.02) is None
    assert wait_for_turn(conflict(), monotonic() - 1) is None
    first.end()


def test_different_objects_do_not_wait_for_each_other() -> None:
    first, second = wait_for_turn(conflict(), soon()), wait_for_turn(conflict(b"2" * 8), soon())
    assert first is not None
    assert second is not None
    first.end()
    second.end()


def test_turns_come_in_order() -> None:
    order: list[int] = []
    first = wait_for_turn(conflict(), soon())
    assert first is not None

    def work(number: int) -> None:
        turn = wait_for_turn(conflict(), soon())
        assert turn is not None
        order.append(number)
        turn.end()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(5)]
    for number, thread in enumerate(threads):
        thread.start()
        wait_until(lambda n=number: len(contended[first.oid]) == n + 2, "it waits")  # type: ignore[misc]
    first.end()
    for thread in threads:
        thread.join(30)
    assert order == [0, 1, 2, 3, 4]


def test_who_changes_a_contended_object_without_a_turn_is_sent_to_the_queue(database: Any) -> None:
    run(put)
    oid = run(lambda: connection().root()["counter"]._p_oid)
    turn = wait_for_turn(conflict(oid), soon())
    assert turn is not None
    attempts: list[int] = []

    def increment() -> None:
        attempts.append(1)
        with ending(turn.end):
            connection().root()["counter"].value += 1

    before = CONFLICTS.labels("ConflictError").value
    run(increment)
    assert len(attempts) == 2
    assert CONFLICTS.labels("ConflictError").value == before + 1
    assert run(lambda: connection().root()["counter"].value) == 1


def test_swallowing_that_conflict_does_not_help(database: Any) -> None:
    run(put)
    oid = run(lambda: connection().root()["counter"]._p_oid)
    turn = wait_for_turn(conflict(oid), soon())
    assert turn is not None
    attempts: list[int] = []

    def increment() -> None:
        attempts.append(1)
        try:
            connection().root()["counter"].value += 1
        except ConflictError:
            turn.end()

    run(increment)
    assert len(attempts) == 2
    assert run(lambda: connection().root()["counter"].value) == 1


def test_what_was_changed_in_memory_before_that_conflict_is_undone(database: Any) -> None:
    """A mapping changes before it tells its connection; the next one would read that."""
    turn = wait_for_turn(conflict(b"\0" * 8), soon())  # at the root
    assert turn is not None
    attempts: list[int] = []

    def increment() -> None:
        root = connection().root()
        attempts.append(root.get("x", 0))
        with ending(turn.end):
            root["x"] = root.get("x", 0) + 1

    run(increment)
    assert attempts == [0, 0]
    assert run(lambda: connection().root()["x"]) == 1


def test_another_attempt_begins_with_what_others_have_committed_until_its_turn(
    database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A storage with a server is asked, after the turn has come and before a connection is open."""
    run(put)
    oid = run(lambda: connection().root()["counter"]._p_oid)
    asked: list[str] = []
    turn = wait_for_turn(conflict(oid), soon())
    assert turn is not None

    def end() -> None:
        asked.append("the turn came")
        turn.end()

    def catch_up() -> None:
        assert LEASES.value == leased
        asked.append("catch up")

    def increment() -> None:
        asked.append("attempt")
        with ending(end):
            connection().root()["counter"].value += 1

    leased = LEASES.value
    monkeypatch.setattr(database.storage, "catch_up", catch_up, raising=False)
    run(increment)
    assert asked == ["attempt", "the turn came", "catch up", "attempt"]


def test_the_last_attempt_takes_its_chance(database: Any) -> None:
    run(put)
    oid = run(lambda: connection().root()["counter"]._p_oid)
    turn = wait_for_turn(conflict(oid), soon())
    assert turn is not None

    def increment() -> None:
        connection().root()["counter"].value += 1

    run(increment, attempts=1)
    assert run(lambda: connection().root()["counter"].value) == 1
    turn.end()


@pytest.mark.parametrize("problem", [ValueError, KeyboardInterrupt])
def test_a_turn_is_passed_on_whatever_happens(database: Any, problem: type[BaseException]) -> None:
    run(put)
    attempts: list[int] = []

    def fail() -> None:
        attempts.append(1)
        counter = connection().root()["counter"]
        if len(attempts) == 2:
            assert contended
            raise problem
        raise ConflictError(object=counter)

    with pytest.raises(problem):
        run(fail)


def test_many_threads_at_one_counter_need_three_attempts_at_most(database: Any) -> None:
    run(put)
    done: list[int] = []

    def increment() -> None:
        counter = connection().root()["counter"]
        value = counter.value
        transaction.savepoint(optimistic=True)
        counter.value = value + 1

    def often() -> None:
        for _ in range(20):
            run(increment, attempts=3)
            done.append(1)

    threads = [threading.Thread(target=often) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(done) == 160
    assert run(lambda: connection().root()["counter"].value) == 160


def put() -> None:
    connection().root()["counter"] = Counter()
