"""A thousand greenlets that count: python -m tests.storage.crowd URI SECONDS GREENLETS PATIENCE

Each reads what others count, and counts in an object of its own; now and then in one that
it shares with many too, so that they conflict. What was in doubt is settled by looking at the
own one. Prints one JSON object: what was counted, what is stored, who is stuck, and
how much memory and how many descriptors were in use.
"""

# ruff: noqa: E402  (patching comes first, as in a worker)

from gevent import monkey

monkey.patch_all()

from nti.appserver.hub.debug import SwitchWatch

watch = SwitchWatch()  # before the locks are made

import json
import os
import random
import sys
import time
from typing import Any

import gevent
import psutil
import transaction
from BTrees.IOBTree import IOBTree
from persistent.mapping import PersistentMapping
from transaction.interfaces import TransientError

from nti.appserver.storage import CommitInDoubt
from tests.storage.programs import opened

SHARED = 40

#: Of so many units of work one writes; of so many that write one writes to a shared object too.
READS, ALONE = 4, 5


class Crowd:
    """The greenlets and what they know of their counting."""

    def __init__(self, database: Any, greenlets: int) -> None:
        self.database = database
        self.counted = [0] * greenlets
        self.progress = [time.monotonic()] * greenlets
        self.reads = 0
        self.conflicts = self.away = self.doubts = 0
        self.over = False
        with database.transaction() as connection:
            root = connection.root()
            for name, size in (("own", greenlets), ("shared", SHARED)):
                root[name] = IOBTree(
                    {key: PersistentMapping(count=0, both=0) for key in range(size)}
                )

    def work(self, number: int) -> None:
        """Count until it is over; greenlet `number`."""
        while not self.over:
            try:
                self._unit(number)
            except CommitInDoubt:
                self.doubts += 1
                self._settle(number)
            except TransientError:
                gevent.sleep(random.uniform(0.05, 0.2))
            self.progress[number] = time.monotonic()

    def _unit(self, number: int) -> None:
        manager = transaction.TransactionManager()
        connection = self.database.open(manager)
        try:
            manager.begin()
            root = connection.root()
            if random.randrange(READS):
                assert root["own"][random.randrange(len(self.counted))]["count"] >= 0
                self.reads += 1
                return
            self._count(root, number)
            manager.commit()
            self.counted[number] += 1
        except TransientError as problem:
            if type(problem).__name__ == "ClientDisconnected":
                self.away += 1
            else:
                self.conflicts += 1
            raise
        finally:
            manager.abort()
            connection.close()

    def _count(self, root: Any, number: int) -> None:
        own = root["own"][number]
        own["count"] += 1
        if not random.randrange(ALONE):
            own["both"] += 1
            root["shared"][random.randrange(SHARED)]["count"] += 1

    def _settle(self, number: int) -> None:
        """What was in doubt counts if it is there; nobody else writes the own object.

        While the server is away the client's cache answers, and it does not know yet.
        """
        while True:
            try:
                self.database.storage.catch_up()
                self.counted[number] = self.stored("own")[number]
            except TransientError:
                gevent.sleep(0.2)
            else:
                return

    def stored(self, name: str, count: str = "count") -> list[int]:
        with self.database.transaction() as connection:
            return [each[count] for each in connection.root()[name].values()]


def use() -> tuple[int, int]:
    """Bytes of memory and descriptors of this process."""
    process = psutil.Process()
    return process.memory_info().rss, process.num_fds()


def main(uri: str, seconds: float, greenlets: int, patience: float) -> None:
    crowd = Crowd(opened(uri, storage_timeout=3.0, connection_limit=greenlets), greenlets)
    watch.start()
    jobs = [gevent.spawn(crowd.work, number) for number in range(greenlets)]
    samples = []
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        gevent.sleep(min(1.0, seconds / 30))
        samples.append(use())
    oldest = min(crowd.progress)
    stuck = time.monotonic() - oldest
    crowd.over = True
    gevent.joinall(jobs, timeout=patience)
    watch.stop()
    found = {
        "counted": sum(crowd.counted),
        "own": sum(crowd.stored("own")),
        "both": sum(crowd.stored("own", "both")),
        "shared": sum(crowd.stored("shared")),
        "reads": crowd.reads,
        "conflicts": crowd.conflicts,
        "away": crowd.away,
        "doubts": crowd.doubts,
        "not ended": sum(not job.ready() for job in jobs),
        "errors": [repr(job.exception) for job in jobs if job.exception is not None][:3],
        "longest without progress": stuck,
        "violations": watch.violations[:3],
        "locks watched": watch.locks,
        "memory": [memory for memory, _ in samples],
        "descriptors": [descriptors for _, descriptors in samples],
    }
    print(json.dumps(found), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
