"""CPU per request against stock gunicorn gevent: python -m benchmarks.http.serving

One worker each, CPU of the whole process tree, rounds that alternate. Needs
wrk. Writes benchmarks/results/http.json.
"""

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.common import cpu_seconds, load, summary
from nti.appserver.testing.process import WORKER_CLASS, GunicornProcess

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "http.json"
STOCK = "gunicorn.workers.ggevent.GeventWorker"
ROUNDS = 7
SECONDS = 1

POST = Path(__file__).with_name("post.lua")

#: Name, connections, wrk's script, header fields.
CASES: list[tuple[str, int, Path | None, tuple[str, ...]]] = [
    ("hello, keep-alive, 64 connections", 64, None, ()),
    ("hello, keep-alive, 1 connection", 1, None, ()),
    ("10 kB JSON POST, 64 connections", 64, POST, ()),
    ("hello, no keep-alive, 64 connections", 64, None, ("Connection: close",)),
]


def per_request(server: GunicornProcess, case: tuple[Any, ...]) -> float:
    """CPU seconds per request of one round."""
    _, connections, script, fields = case
    before = cpu_seconds(server.pid)
    count = load(server.url, connections, SECONDS, script, *fields)
    return (cpu_seconds(server.pid) - before) / count


def main() -> None:
    """Measure, print and write."""
    found = {}
    with ExitStack() as stack:
        servers = [
            stack.enter_context(
                GunicornProcess("benchmarks.http.apps:app", "--pythonpath", str(ROOT), worker=kind)
            ).wait_until_serving()
            for kind in (WORKER_CLASS, STOCK)
        ]
        for case in CASES:
            for server in servers:
                per_request(server, case)  # warm
            rounds: list[list[float]] = [[], []]
            for number in range(ROUNDS):
                for which in (0, 1) if number % 2 else (1, 0):
                    rounds[which].append(per_request(servers[which], case))
            found[case[0]] = summary(*rounds)
            print(case[0], found[case[0]], flush=True)
    RESULTS.write_text(json.dumps(found, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
