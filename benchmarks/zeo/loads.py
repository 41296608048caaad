"""ZEO clients side by side, a delay between them and runzeo: python -m benchmarks.zeo.loads

The number of rounds may follow. Each round runs every way once, each in a
process of its own with an empty cache; ratios are of runs of the same round.
Where the system permits it, all of them have the processors before other work of
the machine. Writes benchmarks/results/zeo.json and draws the plots.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ZODB
from ZEO.ClientStorage import ClientStorage

from benchmarks.zeo.data import fill
from benchmarks.zeo.plots import RESULTS, draw
from nti.appserver.testing.zeo import ZEOServer

ROUNDS = 5
BUCKETS = 200

Figures = dict[str, float]


@dataclass(frozen=True)
class Setup:
    """A row of the table: what is loaded, by how many, through which round trip."""

    name: str
    load: str
    workers: int
    milliseconds: float
    ways: tuple[str, ...]


SETUPS = (
    Setup("100 at 10 ms", "uncached", 100, 10, ("ours", "stock", "threads")),
    Setup("200 at 50 ms", "uncached", 200, 50, ("ours", "stock")),
    Setup("1 without delay", "uncached", 1, 0, ("ours", "stock", "threads")),
    Setup("100 from the cache", "cached", 100, 0, ("ours", "stock", "mapping")),
)


@contextmanager
def proxied(port: int, milliseconds: float) -> Iterator[int]:
    """The port to connect to for a round trip of so long."""
    if not milliseconds:
        yield port
        return
    command = [sys.executable, "-m", "benchmarks.zeo.proxy", str(port), str(milliseconds / 2000)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


def measure(way: str, setup: Setup, port: int) -> Figures:
    """One run of one way."""
    load = setup.load
    if way == "mapping":
        way, load = "ours", "mapping"
    arguments = [way, load, str(port), str(setup.workers)]
    command = [sys.executable, "-m", "benchmarks.zeo.client", *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    found: Figures = json.loads(done.stdout)
    return found


def summary(runs: dict[str, list[Figures]]) -> dict[str, Any]:
    """Medians of each way, and of our figures as parts of the others' of the same round."""
    found: dict[str, Any] = {
        way: {name: round(statistics.median(run[name] for run in rounds), 2) for name in rounds[0]}
        for way, rounds in runs.items()
    }
    for way in runs:
        if way == "ours":
            continue
        for name in ("loads_per_second", "cpu_us", "wall_us"):
            pairs = zip(runs["ours"], runs[way], strict=True)
            ratios = [mine[name] / their[name] for mine, their in pairs]
            found[f"{name}_against_{way}"] = {
                "median": round(statistics.median(ratios), 2),
                "lowest": round(min(ratios), 2),
                "highest": round(max(ratios), 2),
            }
    return found


def go_before_others() -> str:
    """Have this process and its children scheduled before others; how they are."""
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    except OSError:
        return "normal"
    return "real-time"


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    results: dict[str, Any] = {
        "rounds": rounds,
        "python": platform.python_version(),
        "processors": os.cpu_count(),
        "priority": go_before_others(),
    }
    with ZEOServer() as server:
        database = ZODB.DB(ClientStorage(server.address))
        fill(database, BUCKETS)
        database.close()
        for setup in SETUPS:
            runs: dict[str, list[Figures]] = {way: [] for way in setup.ways}
            with proxied(server.port, setup.milliseconds) as port:
                for number in range(rounds):
                    # Alternate who comes first, so that a machine that warms up favours nobody.
                    for way in setup.ways if number % 2 else reversed(setup.ways):
                        runs[way].append(measure(way, setup, port))
            results[setup.name] = summary(runs)
            print(setup.name, json.dumps(results[setup.name], indent=2), flush=True)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    draw()


if __name__ == "__main__":
    main()
