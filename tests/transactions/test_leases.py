"""Leases: one connection of a database for a unit of work, from a bounded set, given back."""

import gc
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import transaction
import ZODB
from persistent import Persistent
from transaction.interfaces import TransientError
from ZODB.DemoStorage import DemoStorage
from ZODB.FileStorage import FileStorage
from ZODB.MappingStorage import MappingStorage

from nti.appserver.errors import ServiceUnavailable
from nti.appserver.settings import Settings
from nti.appserver.testing.process import wait_until
from nti.appserver.transactions import ForeignUse, configure, connection, run, use_database
from nti.appserver.transactions.connections import LeasedConnection
from nti.appserver.transactions.current import slot
from nti.appserver.transactions.databases import leases_of
from nti.appserver.transactions.instruments import (
    FOREIGN_USES,
    KEPT_OBJECTS,
    LEASE_WAIT_SECONDS,
    LEASES,
    LEASES_LOST,
)
from nti.appserver.transactions.units import Unit


class Thing(Persistent):
    """Something to keep."""

    value = 0


def put_thing() -> None:
    connection().root()["thing"] = Thing()


def test_a_unit_of_work_has_one_connection_of_a_database(database: Any) -> None:
    def twice() -> None:
        assert connection() is connection()
        assert LEASES.value == before + 1

    before = LEASES.value
    run(twice)
    assert LEASES.value == before


def test_nothing_is_leased_by_who_asks_for_nothing(database: Any) -> None:
    before = LEASES.value

    def work() -> None:
        assert LEASES.value == before

    run(work)


@pytest.mark.parametrize("problem", [ValueError, KeyboardInterrupt, TransientError])
def test_a_lease_is_given_back_whatever_happens(
    database: Any, problem: type[BaseException]
) -> None:
    before = LEASES.value

    def fail() -> None:
        connection().root()["x"] = 1
        raise problem

    for _ in range(3):
        with pytest.raises(problem):
            run(fail)
    assert LEASES.value == before


def test_nothing_is_leased_between_two_attempts(
    database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = LEASES.value
    during: list[float] = []
    monkeypatch.setattr("time.sleep", lambda seconds: during.append(LEASES.value))

    def fail() -> None:
        connection()
        raise TransientError

    with pytest.raises(TransientError):
        run(fail)
    assert during == [before, before]


def test_when_none_is_free_the_answer_is_503_with_retry_after(
    database: Any, caplog: pytest.LogCaptureFixture
) -> None:
    configure(Settings(connection_limit=1, connection_wait=0.05))
    unit = Unit().start()
    unit.connection()
    unit.leave()
    with pytest.raises(ServiceUnavailable) as seen:
        run(connection)
    assert seen.value.retry_after >= 1
    assert "test_leases.py" in caplog.text, "it says who has the connection"
    assert "test_when_none_is_free" in caplog.text
    unit.release()
    run(connection)


def test_who_waits_longest_is_first(database: Any) -> None:
    configure(Settings(connection_limit=1, connection_wait=30))
    leases = leases_of(database)
    holder = Unit().start()
    holder.connection()
    order: list[int] = []
    waited = sum(LEASE_WAIT_SECONDS.counts)

    def work(number: int) -> None:
        connection()
        order.append(number)

    threads = []
    for number in range(5):
        thread = threading.Thread(target=run, args=(work, number))
        thread.start()
        threads.append(thread)
        wait_until(lambda n=number: len(leases._waiting) == n + 1, "it waits")  # type: ignore[misc]
    holder.end()
    for thread in threads:
        thread.join(30)
    assert order == [0, 1, 2, 3, 4]
    assert sum(LEASE_WAIT_SECONDS.counts) == waited + 5


def test_the_set_is_bounded_under_many_threads(database: Any) -> None:
    configure(Settings(connection_limit=3, connection_wait=30))
    most: list[float] = []
    start = LEASES.value

    def work() -> None:
        connection().root()
        most.append(LEASES.value - start)

    def often() -> None:
        for _ in range(50):
            run(work)

    threads = [threading.Thread(target=often) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(most) == 500
    assert max(most) <= 3
    assert LEASES.value == start


def test_a_lease_that_is_not_given_back_is_reported_with_where_it_was_taken(
    database: Any, caplog: pytest.LogCaptureFixture
) -> None:
    lost, before = LEASES_LOST.value, LEASES.value
    unit = Unit().start()
    unit.connection().root()
    unit.leave()
    del unit
    gc.collect()
    assert LEASES_LOST.value == lost + 1
    assert LEASES.value == before
    assert "test_a_lease_that_is_not_given_back" in caplog.text
    run(connection)


@pytest.fixture
def lose() -> Iterator[Callable[[], None]]:
    """Loses a lease of this thread's manager, which only a collection of garbage ends."""

    def lose() -> None:
        unit = Unit().start()
        unit.connection()
        unit.leave()
        unit.me = unit  # type: ignore[attr-defined]

    gc.disable()
    yield lose
    gc.enable()


def test_a_lost_lease_that_is_collected_ends_no_later_transaction(
    database: Any, lose: Callable[[], None]
) -> None:
    lose()
    before = LEASES.value

    def work() -> None:
        connection().root()["x"] = 1
        gc.collect()
        assert LEASES.value == before

    run(work)
    assert run(lambda: connection().root()["x"]) == 1


def test_a_lost_lease_may_be_collected_while_somebody_joins_the_queue(
    database: Any, lose: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever that makes may collect garbage, and so give back what was lost."""

    class Threading:
        @staticmethod
        def Lock() -> Any:
            gc.collect()
            return threading.Lock()

    configure(Settings(connection_limit=1, connection_wait=20))
    lose()
    monkeypatch.setattr("nti.appserver.transactions.leases.threading", Threading)
    waiting = threading.Thread(target=run, args=(connection,), daemon=True)
    waiting.start()
    waiting.join(30)
    assert not waiting.is_alive(), "it waits for what it holds itself"


def test_a_connection_that_cannot_be_closed_fails_no_unit_of_work(
    database: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """It has committed by then."""
    before = LEASES.value
    broken: list[Any] = []

    def away() -> None:
        raise ConnectionError("away")

    def work() -> str:
        leased = connection()
        leased.root()["x"] = 1
        leased._storage.afterCompletion = away
        broken.append(leased)
        return "done"

    configure(Settings(connection_limit=1, connection_wait=20))
    assert run(work) == "done"
    assert LEASES.value == before
    assert "ConnectionError: away" in caplog.text
    assert run(lambda: (connection() is broken[0], connection().root()["x"])) == (False, 1)


def test_the_pool_has_room_for_all_leases(caplog: pytest.LogCaptureFixture) -> None:
    database = ZODB.DB(None)
    use_database(database)
    units = []
    for _ in range(30):
        unit = Unit(transaction.TransactionManager()).start()
        unit.connection()
        unit.leave()
        units.append(unit)
    assert "pool_size" not in caplog.text
    for unit in units:
        unit.release()
    database.close()


def test_an_object_changed_by_another_unit_of_work_is_refused_and_fails_both(database: Any) -> None:
    def outer() -> None:
        root = connection().root()
        before = FOREIGN_USES.labels("write").value
        inner = threading.Thread(target=lambda: failed.append(raised_by(root)))
        inner.start()
        inner.join(30)
        assert FOREIGN_USES.labels("write").value == before + 1

    def raised_by(root: Any) -> BaseException:
        with pytest.raises(ForeignUse, match="PersistentMapping 0x00 belongs to") as raised:
            run(root.__setitem__, "x", 1)
        return raised.value

    failed: list[BaseException] = []
    with pytest.raises(ForeignUse) as raised:
        run(outer)
    assert failed == [raised.value]
    assert run(lambda: connection().root().get("x")) is None, "it stayed in memory"


def test_an_object_changed_after_its_unit_of_work_is_refused(database: Any) -> None:
    root = run(lambda: connection().root())
    with pytest.raises(ForeignUse, match="0x00 belongs to a unit of work that is over"):
        root["x"] = 1
    assert run(lambda: connection().root().get("x")) is None, "it stayed in memory"
    run(put_thing)


def test_a_change_that_no_transaction_takes_is_forgotten(database: Any) -> None:
    """It is in memory alone, in a connection that the next unit of work leases."""

    def late(succeeded: bool, root: Any) -> None:
        root["late"] = 1  # changes its data, then tells its connection

    def work() -> None:
        root = connection().root()
        root["x"] = 1
        transaction.get().addAfterCommitHook(late, (root,))

    run(work)
    assert run(lambda: dict(connection().root())) == {"x": 1}


def test_an_object_read_by_another_unit_of_work_is_reported(
    database: Any, caplog: pytest.LogCaptureFixture
) -> None:
    run(put_thing)
    unit = Unit(transaction.TransactionManager(), "GET /first").start()
    unit.connection().cacheMinimize()
    things = [unit.connection().root()["thing"] for _ in range(3)]
    unit.leave()
    before = FOREIGN_USES.labels("read").value
    run(lambda: [thing.value for thing in things])
    assert FOREIGN_USES.labels("read").value == before + 1
    assert "belongs to GET /first" in caplog.text
    unit.release()


def test_a_unit_of_work_inside_may_use_the_objects_of_the_outer_one(
    database: Any, caplog: pytest.LogCaptureFixture
) -> None:
    run(put_thing)

    def outer() -> int:
        thing = connection().root()["thing"]
        return run(lambda: thing.value, manager=transaction.TransactionManager())

    assert run(outer) == 0
    assert "belongs to" not in caplog.text


def test_debug_mode_reports_objects_kept_past_their_unit_of_work(
    database: Any, caplog: pytest.LogCaptureFixture
) -> None:
    run(put_thing)
    configure(Settings(debug_units=True))
    before = KEPT_OBJECTS.value
    assert run(lambda: connection().root()["thing"].value) == 0
    assert "kept" not in caplog.text
    kept = run(lambda: connection().root()["thing"])
    assert KEPT_OBJECTS.value == before + 1
    assert "1 of its objects are kept: Thing 0x01" in caplog.text
    assert kept is not None


@pytest.fixture
def mounted() -> Iterator[Callable[[], Any]]:
    """Gives the object of a database that is mounted in the main one's root."""
    databases: dict[str, Any] = {}
    main = ZODB.DB(None, databases=databases, database_name="main")
    beside = ZODB.DB(None, databases=databases, database_name="beside", xrefs=True)
    use_database(main)

    def mount() -> None:
        connection("beside").root()["thing"] = thing = Thing()
        connection("beside").add(thing)
        connection().root()["mounted"] = thing

    run(mount)
    yield lambda: connection().root()["mounted"]
    main.close()
    beside.close()


def test_an_object_of_a_mounted_database_commits_with_the_main_one(
    mounted: Callable[[], Any],
) -> None:
    def change(value: int) -> None:
        mounted().value = value
        connection().root()["value"] = value
        if value == 2:
            raise ValueError("no")

    def seen() -> tuple[int, int, str]:
        thing = mounted()
        return thing.value, connection().root()["value"], thing._p_jar.db().database_name

    for expected in (1, 3):
        run(change, expected)
        with pytest.raises(ValueError, match="no"):
            run(change, 2)
        assert run(seen) == (expected, expected, "beside")


def test_an_object_of_a_mounted_database_belongs_to_its_unit_of_work(
    mounted: Callable[[], Any],
) -> None:
    """In every lease of its connection, not in that alone which has opened it."""

    def elsewhere() -> None:
        thing = mounted()
        inner = threading.Thread(target=lambda: failed.append(raised_by(thing)))
        inner.start()
        inner.join(30)

    def raised_by(thing: Any) -> BaseException:
        with pytest.raises(ForeignUse, match="belongs to") as raised:
            run(setattr, thing, "value", 5)
        return raised.value

    failed: list[BaseException] = []
    for number in range(2):
        with pytest.raises(ForeignUse):
            run(elsewhere)
        assert len(failed) == number + 1
    assert run(lambda: mounted().value) == 0, "it stayed in memory"


def test_debug_mode_reports_kept_objects_of_a_mounted_database(mounted: Callable[[], Any]) -> None:
    configure(Settings(debug_units=True))
    before = KEPT_OBJECTS.value
    kept = run(mounted)
    assert KEPT_OBJECTS.value == before + 1
    assert kept is not None


def test_a_mounted_database_still_in_a_transaction_is_given_back(
    mounted: Callable[[], Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Something has changed an object after the commit, say."""
    before = LEASES.value
    unit = Unit().start()
    thing = unit.connection("beside").root()["thing"]
    transaction.begin()
    thing.value = 5
    unit.end()
    assert "given back while its transaction ran" in caplog.text
    assert LEASES.value == before
    assert run(lambda: mounted().value) == 0


@pytest.mark.parametrize("kind", ["mapping", "file", "demo"])
def test_each_unit_of_work_sees_what_is_stored_by_then(kind: str, tmp_path: Path) -> None:
    """Whoever has stored it, and though a connection that is lent again asks for changes alone."""
    file = FileStorage(str(tmp_path / "data.fs"))
    storages = {"mapping": MappingStorage(), "file": file, "demo": DemoStorage(base=file)}
    database = ZODB.DB(storages[kind])
    use_database(database)

    def seen() -> Any:
        return connection().root().get("x"), connection()

    def elsewhere(value: int) -> None:
        with database.transaction() as opened:
            opened.root()["x"] = value

    elsewhere(1)
    value, first = run(seen)
    assert value == 1
    for number in range(2, 6):
        assert run(seen) == (number - 1, first)
        elsewhere(number)
        assert run(seen) == (number, first)
    run(lambda: connection().root().update(x="own"))
    assert run(seen) == ("own", first)
    elsewhere(6)
    elsewhere(7)
    assert run(seen) == (7, first)
    if kind == "file":
        database.undo(database.undoInfo()[0]["id"])
        transaction.commit()
        assert run(seen) == (6, first)
    database._mvcc_storage.invalidateCache()  # as after a server that was away for long
    assert run(lambda: connection().root()._p_state) == -1
    assert run(seen)[1] is first
    database.close()
    file.close()


def test_a_storage_that_is_away_costs_no_connection(
    database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(connection)
    before = LEASES.value

    def away(self: Any, *args: Any) -> None:
        raise ConnectionError("away")

    with monkeypatch.context() as patched:
        patched.setattr(LeasedConnection, "newTransaction", away)
        for _ in range(3):
            with pytest.raises(ConnectionError):
                run(connection)
    assert LEASES.value == before
    assert run(connection) is first


def test_databases_beside_each_other_commit_together() -> None:
    databases: dict[str, Any] = {}
    main = ZODB.DB(None, databases=databases, database_name="main")
    beside = ZODB.DB(None, databases=databases, database_name="beside")
    use_database(main)

    def both(value: int) -> None:
        assert connection("main") is connection()
        connection().root()["x"] = value
        connection("beside").root()["x"] = value
        if value == 2:
            raise ValueError("no")

    def seen() -> tuple[int, int]:
        return connection().root()["x"], connection("beside").root()["x"]

    run(both, 1)
    with pytest.raises(ValueError, match="no"):
        run(both, 2)
    assert run(seen) == (1, 1)
    with pytest.raises(KeyError):
        run(lambda: connection("nowhere"))
    main.close()
    beside.close()
    assert slot.unit is None
