"""Commits to a FileStorage in a patched process share the disk's writes, and none returns early."""

from pathlib import Path

from nti.appserver.testing.patched import run

COMMITS = """
import os, sys, threading, time
import gevent, gevent.event
import transaction
from nti.appserver.storage import open_database

path = sys.argv[1]
db = open_database(f"file://{path}")
log, real = [], os.fsync
syncs = db.storage._BlobStorage__storage._syncs
#: A sync goes on until so many commits are written, which they are while it does.
enough, sleep = 0, gevent.monkey.get_original("time", "sleep")


def slow(descriptor):
    global enough
    log.append(("begins", os.fstat(descriptor).st_size))
    ends = time.monotonic() + 10
    while syncs.written < enough and time.monotonic() < ends:
        sleep(0.01)
    enough = 0
    sleep(0.02)
    real(descriptor)
    log.append(("ended", None))


os.fsync = slow


def commit(number):
    manager = transaction.TransactionManager()
    opened = db.open(manager)
    for attempt in range(100):
        try:
            with manager:
                opened.root()[number] = number
        except transaction.interfaces.TransientError:
            continue
        break
    opened.close()
"""


def test_commits_of_many_greenlets_share_syncs(tmp_path: Path) -> None:
    program = COMMITS + (
        """
with db.transaction() as opened:
    for number in range(20):
        opened.root()[str(number)] = type(opened.root())()
log.clear()
enough = syncs.written + 20


def write(number):
    manager = transaction.TransactionManager()
    opened = db.open(manager)
    with manager:
        opened.root()[str(number)]["x"] = number
    returned[number] = (len(log), os.path.getsize(path))
    opened.close()


returned = {}
ticks = []
ticking = gevent.spawn(lambda: [(ticks.append(1), gevent.sleep(0.001)) for _ in range(10_000)])
gevent.joinall([gevent.spawn(write, number) for number in range(20)], timeout=30, raise_error=True)
begun = [what for what, _ in log if what == "begins"]
print(len(returned), len(begun) < 10, len(ticks) > 5)
ticking.kill()
db.close()
os.fsync = real
again = open_database(f"file://{path}")
with again.transaction() as opened:
    print(sorted(opened.root()[str(number)]["x"] for number in range(20)) == list(range(20)))
again.close()
"""
    )
    assert run(program, str(tmp_path / "data.fs")).split() == ["20", "True", "True", "True"]


def test_a_commit_returns_after_a_sync_that_began_when_it_was_written(tmp_path: Path) -> None:
    program = COMMITS + (
        """
sizes = {}
file = db.storage._BlobStorage__storage
finish = type(file)._finish_finish


def noted(storage, tid):
    finish(storage, tid)
    sizes[gevent.getcurrent()] = os.path.getsize(path)


type(file)._finish_finish = noted


def checked(number):
    commit(number)
    mine = sizes[gevent.getcurrent()]
    ended = [covered for covered, (what, _) in zip(log, log[1:]) if what == "ended"]
    assert any(covered[1] >= mine for covered in ended), (mine, log)
    return True


greenlets = [gevent.spawn(checked, number) for number in range(10)]
gevent.joinall(greenlets, timeout=30, raise_error=True)
print(len(sizes))
db.close()
"""
    )
    assert run(program, str(tmp_path / "data.fs")).split() == ["10"]


def test_a_file_that_cannot_be_synced_fails_the_commit_and_all_after_it(tmp_path: Path) -> None:
    program = COMMITS + (
        """
from ZODB.POSException import StorageSystemError


def broken(descriptor):
    raise OSError(5, "told to")


os.fsync = broken
failed = []


def fail(number):
    try:
        commit(number)
    except BaseException as problem:
        failed.append(problem)


gevent.spawn(fail, 1).join(30)
os.fsync = real
gevent.spawn(fail, 2).join(30)
print(isinstance(failed[0], StorageSystemError), "told to" in str(failed[0]), len(failed))
"""
    )
    assert run(program, str(tmp_path / "data.fs")).split() == ["True", "True", "2"]


def test_a_pack_is_on_disk_when_it_returns(tmp_path: Path) -> None:
    program = COMMITS + (
        """
for number in range(5):
    commit(0)
log.clear()
before = os.path.getsize(path)
db.pack()
print(os.path.getsize(path) < before, [what for what, _ in log], log[0][1] == os.path.getsize(path))
commit(7)
db.close()
"""
    )
    assert run(program, str(tmp_path / "data.fs")) == "True ['begins', 'ended'] True\n"


def test_what_is_not_a_plain_filestorage_is_left_alone(tmp_path: Path) -> None:
    program = """
import sys
from nti.appserver.storage import open_database

for uri in ("memory://", f"file://{sys.argv[1]}/a.fs", f"file://{sys.argv[1]}/a.fs?read_only=1"):
    db = open_database(uri)
    inner = getattr(db.storage, "_BlobStorage__storage", db.storage)
    print(type(db.storage).__name__, type(inner).__name__)
    db.close()
"""
    assert run(program, str(tmp_path)).splitlines() == [
        "MappingStorage MappingStorage",
        "SyncedBlobStorage SyncedFileStorage",
        "FileStorage FileStorage",
    ]


def test_blobs_of_a_commit_stay_when_another_aborts_while_it_waits(tmp_path: Path) -> None:
    program = COMMITS + (
        """
import ZODB.blob
from ZODB.interfaces import IBlobStorage


def blob(number):
    manager = transaction.TransactionManager()
    opened = db.open(manager)
    manager.begin()
    opened.root()[str(number)] = ZODB.blob.Blob(b"data %d" % number)
    if number % 2:
        manager.get().join(Failing())
    try:
        manager.commit()
    except (ValueError, transaction.interfaces.TransientError):
        manager.abort()
    opened.close()


class Failing:
    def sortKey(self):
        return "~~~"

    def tpc_vote(self, tx):
        raise ValueError

    tpc_begin = commit = tpc_finish = tpc_abort = abort = lambda self, tx: None


assert IBlobStorage.providedBy(db.storage)
for number in range(0, 20, 2):
    gevent.joinall([gevent.spawn(blob, number + each) for each in (0, 1)], timeout=30)
with db.transaction() as opened:
    names = sorted(opened.root(), key=int)
    print([opened.root()[name].open("r").read().decode() for name in names])
"""
    )
    found = run(program, str(tmp_path / "data.fs"))
    assert found == str([f"data {number}" for number in range(0, 20, 2)]) + "\n"


def test_who_waits_for_a_turn_at_an_object_does_not_wait_for_the_disk(tmp_path: Path) -> None:
    program = COMMITS + (
        """
from nti.appserver.settings import Settings
from nti.appserver.transactions import configure, connection, run, use_database

configure(Settings(attempts=50))
use_database(db)
run(lambda: connection().root().update(count=0))
log.clear()
enough = syncs.written + 2


def increment():
    value = connection().root()["count"]
    gevent.sleep(0)
    connection().root()["count"] = value + 1


greenlets = [gevent.spawn(run, increment) for _ in range(20)]
gevent.joinall(greenlets, timeout=30, raise_error=True)
begun = [what for what, _ in log if what == "begins"]
print(run(lambda: connection().root()["count"]), len(begun) < 20)
db.close()
"""
    )
    assert run(program, str(tmp_path / "data.fs")).split() == ["20", "True"]
