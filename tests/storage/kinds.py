# ruff: noqa: E402  (patched first)
"""What every storage must do, run in a patched process: `python -m` this module URI VAR.

Prints one JSON object: the name of each check, and 'ok' or why not. A check that a
storage cannot pass as it lacks the feature sees to it that the lack is said.
"""

from gevent import monkey

monkey.patch_all()

import json
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

import gevent
import transaction
from gevent.threadpool import ThreadPool
from persistent.mapping import PersistentMapping
from ZODB.blob import Blob
from ZODB.DB import DB
from ZODB.DemoStorage import DemoStorage
from ZODB.MappingStorage import MappingStorage
from ZODB.POSException import ConflictError, Unsupported

from nti.appserver.settings import Settings
from nti.appserver.storage import open_database, probe
from tests.storage.programs import count, increment

#: RelStorage lets connections that a native thread has used be closed while that lives.
POOL = ThreadPool(2)

CHECKS: dict[str, Callable[[Any], None]] = {}


def check(function: Callable[[Any], None]) -> Callable[[Any], None]:
    CHECKS[function.__name__] = function
    return function


@check
def stores_and_loads(database: Any) -> None:
    def store(number: int) -> None:
        for _ in range(100):
            try:
                with database.transaction() as connection:
                    connection.root()[f"thing-{number}"] = PersistentMapping(number=number)
                return
            except ConflictError:
                gevent.sleep(0.01)

    gevent.joinall([gevent.spawn(store, number) for number in range(10)], raise_error=True)
    database.cacheMinimize()
    with database.transaction() as connection:
        found = [connection.root()[f"thing-{number}"]["number"] for number in range(10)]
    assert found == list(range(10)), found


@check
def conflicts_are_seen(database: Any) -> None:
    managers = [transaction.TransactionManager() for _ in range(2)]
    one, other = [database.open(manager) for manager in managers]
    for connection in (one, other):
        connection.root()["contended"] = id(connection)
    managers[0].commit()
    try:
        managers[1].commit()
    except ConflictError:
        managers[1].abort()
    else:
        raise AssertionError("the second commit was accepted")
    assert other.root()["contended"] == id(one)
    one.close()
    other.close()


@check
def no_increment_is_lost(database: Any) -> None:
    """By greenlets and by native threads."""
    jobs = [gevent.spawn(increment_five, database) for _ in range(6)]
    jobs += [POOL.spawn(increment_five, database) for _ in range(2)]
    for job in jobs:
        assert all(job.get(timeout=60))
    assert count(database) == 8 * 5, count(database)


def increment_five(database: Any) -> list[bool]:
    return [increment(database) for _ in range(5)]


@check
def a_snapshot_stays(database: Any) -> None:
    """What a transaction reads is of one moment, whatever others commit."""
    with database.transaction() as connection:
        connection.root()["left"] = connection.root()["right"] = PersistentMapping(n=0)
        connection.root()["right"] = PersistentMapping(n=0)
    manager = transaction.TransactionManager()
    reader = database.open(manager)
    assert reader.root()["left"]["n"] == 0
    with database.transaction() as connection:
        connection.root()["left"]["n"] = connection.root()["right"]["n"] = 1
    reader.cacheMinimize()
    assert (reader.root()["left"]["n"], reader.root()["right"]["n"]) == (0, 0)
    manager.begin()
    assert (reader.root()["left"]["n"], reader.root()["right"]["n"]) == (1, 1)
    manager.abort()
    reader.close()


@check
def undoes(database: Any) -> None:
    for value in ("before", "after"):
        with database.transaction() as connection:
            connection.root()["undone"] = PersistentMapping() if value == "before" else "gone"
            connection.transaction_manager.get().note(f"set {value}")
    if not database.supportsUndo():
        return
    (last, *_) = database.undoInfo(0, 1)
    assert "set after" in last["description"], last
    with database.transaction() as connection:
        database.undo(last["id"], connection.transaction_manager.get())
    with database.transaction() as connection:
        assert isinstance(connection.root()["undone"], PersistentMapping)


@check
def keeps_blobs(database: Any) -> None:
    content = b"0123456789abcdef" * 65536
    blob = Blob()
    with blob.open("w") as writing:
        writing.write(content)
    try:
        with database.transaction() as connection:
            connection.root()["blob"] = blob
    except Unsupported:
        assert isinstance(database.storage, MappingStorage), database.storage
        return
    database.cacheMinimize()
    with database.transaction() as connection:
        stored = connection.root()["blob"]
        with stored.open() as reading:
            assert reading.read() == content
        try:
            with stored.open("w") as writing:
                writing.write(b"never")
            raise LookupError
        except LookupError:
            connection.transaction_manager.abort()
        with stored.open() as reading:
            assert reading.read(16) == content[:16]


@check
def packs(database: Any) -> None:
    for number in range(5):
        with database.transaction() as connection:
            connection.root()["packed"] = number
            connection.root()["garbage"] = PersistentMapping(number=number)
    if isinstance(database.storage, DemoStorage):
        return  # ZODB cannot pack one whose changes were named
    database.pack(time.time() + 1)
    with database.transaction() as connection:
        assert connection.root()["packed"] == 4
        assert connection.root()["garbage"]["number"] == 4
        oid = connection.root()._p_oid
    if database.supportsUndo():
        # RelStorage does not count the one that is left.
        assert len(database.storage.history(oid, size=10)) <= 1


@check
def is_mounted(database: Any) -> None:
    """A transaction over this database and another one: both commit, or neither."""
    other = DB(MappingStorage(), databases=database.databases, database_name="other")
    with database.transaction() as connection:
        beside = connection.get_connection("other")
        thing = PersistentMapping(n=1)
        beside.add(thing)
        beside.root()["thing"] = thing
        connection.root()["mounted"] = thing
    with database.transaction() as connection:
        assert connection.root()["mounted"]._p_jar.db() is other
    manager = transaction.TransactionManager()
    connection = database.open(manager)
    connection.root()["mounted"]["n"] = 2
    connection.root()["contended"] = "mine"
    with database.transaction() as faster:
        faster.root()["contended"] = "theirs"
    try:
        manager.commit()
    except ConflictError:
        manager.abort()
    assert connection.root()["mounted"]["n"] == 1
    connection.close()


@check
def is_cooperative(database: Any) -> None:
    for finding in probe.check("probed", database.storage):
        assert finding.is_cooperative, finding


def main(uri: str, var: str) -> None:
    database = open_database(uri, Settings(var=var))
    outcomes = {}
    for name, function in CHECKS.items():
        try:
            function(database)
            outcomes[name] = "ok"
        except Exception:
            transaction.abort()
            outcomes[name] = traceback.format_exc()
    for each in list(database.databases.values()):
        each.close()
    print(json.dumps(outcomes))


if __name__ == "__main__":
    main(*sys.argv[1:])
