"""One client process of the benchmark: python -m benchmarks.zeo.client WAY LOAD PORT WORKERS

WAY: `ours`, `stock` (ZEO as it comes, in a patched process, without uvloop,
whose loop would stop the hub there), `threads` (unpatched, with uvloop). LOAD:
`uncached` (each object is asked for once), `cached` (ZEO's client cache has
them), `mapping` (a MappingStorage in the process, with the same objects). Prints
one JSON object.
"""

# ruff: noqa: E402  (patching comes first, as in a worker)

import sys

WAY, LOAD, PORT, WORKERS = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])

if WAY == "stock":
    sys.modules["uvloop"] = None  # type: ignore[assignment]
if WAY != "threads":
    from gevent import monkey

    monkey.patch_all()

import gc
import json
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import transaction
import ZEO.ClientStorage
import ZODB
from ZODB.MappingStorage import MappingStorage

from benchmarks.zeo.data import EACH, fill

MIB = 1024 * 1024

#: Times that cached ones are loaded.
REPEATS = 10
TICK = 0.005
#: Seconds until all workers are under way, and lateness is that of the work.
SETTLE = 0.3


def opened() -> Any:
    """The database, as this way opens it."""
    if LOAD == "mapping":
        database = ZODB.DB(MappingStorage(), pool_size=1000)
        fill(database, WORKERS)
        return database
    if WAY == "ours":
        from nti.appserver.storage.zeo.client import install

        install()
    storage = ZEO.ClientStorage.ClientStorage(("127.0.0.1", PORT), cache_size=100 * MIB)
    return ZODB.DB(storage, pool_size=1000)


class Lateness(threading.Thread):
    """How late a timer is run; with greenlets that is the hub's lateness."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.samples: list[float] = []
        self.over = False

    def run(self) -> None:
        time.sleep(SETTLE)
        while not self.over:
            began = time.perf_counter()
            time.sleep(TICK)
            self.samples.append((time.perf_counter() - began - TICK) * 1000)

    def summary(self) -> dict[str, float]:
        ordered = sorted(self.samples)
        return {
            "late_p50_ms": ordered[len(ordered) // 2],
            "late_p99_ms": ordered[int(len(ordered) * 0.99)],
            "late_max_ms": ordered[-1],
        }


def run_all(jobs: list[Callable[[], None]]) -> None:
    """In greenlets or threads, as `threading` is."""
    threads = [threading.Thread(target=job) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def work(connection: Any, worker: int, repeats: int) -> Callable[[], None]:
    """Loads the worker's objects, `repeats` times."""
    objects = list(connection.root()[worker].values())

    def job() -> None:
        for _ in range(repeats):
            for each in objects:
                each._p_activate()
            if repeats > 1:
                for each in objects:
                    each._p_deactivate()

    return job


def main() -> None:
    database = opened()
    managers = [transaction.TransactionManager() for _ in range(WORKERS)]
    connections = [database.open(manager) for manager in managers]
    if LOAD == "cached":
        run_all([work(each, number, 1) for number, each in enumerate(connections)])
        for each in connections:
            each.cacheMinimize()
    repeats = 1 if LOAD == "uncached" else REPEATS
    jobs = [work(each, number, repeats) for number, each in enumerate(connections)]
    gc.collect()
    gc.freeze()  # of the objects above; a collection of all would be the longest pause
    lateness = Lateness()
    lateness.start()
    wall, cpu = time.perf_counter(), time.process_time()
    run_all(jobs)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    lateness.over = True
    loads = WORKERS * EACH * repeats
    found = {
        "loads_per_second": loads / wall,
        "cpu_us": cpu / loads * 1e6,
        "wall_us": wall / loads * 1e6,
    }
    # From the cache nobody waits, so nobody else's turn comes.
    if LOAD == "uncached" and lateness.samples:
        found.update(lateness.summary())
    print(json.dumps(found), flush=True)
    os._exit(0)  # what the clients do at their end is not measured


main()
