"""Looking for stale reads: python -m tests.storage.snapshots write|read URI SECONDS

Objects come in pairs, and a transaction writes both of a pair, with the next number.
`write` does that from a process of its own. `read` does it too, and has greenlets and
native threads read pairs from ZEO's client cache all the while: in one transaction both
have the same number, no reader sees a number go back, and what this process
has committed is there for all that begins after it. Prints one JSON object.
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
import transaction
from BTrees.IOBTree import IOBTree
from gevent.threadpool import ThreadPool
from persistent.mapping import PersistentMapping
from transaction.interfaces import TransientError

from tests.storage.programs import opened

PAIRS = 30
READERS, WRITERS, THREADS = 20, 3, 3

#: What a run is long enough for, on a busy machine too; it is not for longer than so many seconds.
ENOUGH_READS, ENOUGH_COMMITS, ENOUGH_SECONDS = 500, 20, 60.0

#: Bytes of an object, and a cache that does not hold all of them with their older states.
SIZE, CACHE = 4000, 1024 * 1024


class Site:
    """The database, and what is known to be committed."""

    def __init__(self, uri: str) -> None:
        self.database = opened(uri, cache_size=CACHE, connection_limit=100)
        self.least = [0] * PAIRS
        self.faults: list[str] = []
        self.reads = self.commits = 0
        self.over = False

    def fill(self) -> None:
        with self.database.transaction() as connection:
            for side in ("left", "right"):
                connection.root()[side] = IOBTree(
                    {pair: PersistentMapping(n=0, text=os.urandom(SIZE)) for pair in range(PAIRS)}
                )

    def is_too_little(self) -> bool:
        """Whether what was done until now shows little."""
        return self.reads < ENOUGH_READS or self.commits < ENOUGH_COMMITS

    def write(self) -> None:
        """Write pairs, until it is over; in a greenlet."""
        manager = transaction.TransactionManager()
        connection = self.database.open(manager)
        while not self.over:
            pair = random.randrange(PAIRS)
            manager.begin()
            left, right = (connection.root()[side][pair] for side in ("left", "right"))
            left["n"] = right["n"] = number = left["n"] + 1
            try:
                manager.commit()
            except TransientError:
                manager.abort()
                gevent.sleep(0.01)
            else:
                self.least[pair] = max(self.least[pair], number)
                self.commits += 1
        connection.close()

    def read(self) -> None:
        """Read pairs and compare, until it is over; in a greenlet or a native thread."""
        manager = transaction.TransactionManager()
        connection = self.database.open(manager)
        seen = [0] * PAIRS
        while not self.over:
            pairs = random.sample(range(PAIRS), 3)
            least = [self.least[pair] for pair in pairs]
            manager.begin()
            root = connection.root()
            for pair, known in zip(pairs, least, strict=True):
                left, right = root["left"][pair]["n"], root["right"][pair]["n"]
                if not (left == right and left >= known and left >= seen[pair]):
                    self.faults.append(
                        f"pair {pair}: {left} and {right}; seen {seen[pair]}, committed {known}"
                    )
                seen[pair] = left
                self.reads += 1
            manager.abort()
            connection.cacheMinimize()  # the next read asks the storage again
            time.sleep(random.uniform(0, 0.02))
        connection.close()


def read(uri: str, seconds: float) -> dict[str, Any]:
    site = Site(uri)
    watch.start()
    pool = ThreadPool(THREADS)
    jobs = [gevent.spawn(site.write) for _ in range(WRITERS)]
    jobs += [gevent.spawn(site.read) for _ in range(READERS)]
    jobs += [pool.spawn(site.read) for _ in range(THREADS)]
    gevent.sleep(seconds)
    ends = time.monotonic() + ENOUGH_SECONDS
    while site.is_too_little() and time.monotonic() < ends:
        gevent.sleep(0.1)
    site.over = True
    for job in jobs:
        job.get(timeout=60)
    watch.stop()
    return {
        "faults": len(site.faults),
        "first": site.faults[:3],
        "reads": site.reads,
        "commits": site.commits,
        "hits": site.database.storage._cache.getStats()[4],
        "loads": site.database.storage._call("server_status")["loads"],
        "violations": watch.violations[:3],
    }


def main(way: str, uri: str, seconds: float) -> None:
    if way == "read":
        print(json.dumps(read(uri, seconds)), flush=True)
        os._exit(0)
    site = Site(uri)
    site.fill()
    print("filled", flush=True)
    writer = gevent.spawn(site.write)
    gevent.sleep(seconds)
    site.over = True
    writer.get()
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
