"""How evenly workers share connections: python -m benchmarks.http.workers

Four workers of one site, ours and gunicorn's own in turn. Connections come all
at once with requests on them, or one after the other and stay idle. Needs wrk.
"""

import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import psutil

from benchmarks.http.memory import answered, connect
from benchmarks.http.plots import draw
from benchmarks.http.results import save
from benchmarks.http.servers import OURS, STOCK, Server
from nti.appserver.testing.process import wait_until

WORKERS = 4
CONNECTIONS = 400
ROUNDS = 7
APP = "benchmarks.http.apps:app"


def counts(server: Server) -> list[int]:
    """How many client connections each worker holds."""
    workers = psutil.Process(server.pid).children()
    return sorted(
        sum(each.status == psutil.CONN_ESTABLISHED for each in worker.net_connections("tcp"))
        for worker in workers
    )


def held(server: Server) -> bool:
    """Whether every connection has been accepted."""
    return sum(counts(server)) == CONNECTIONS


def at_once(server: Server) -> list[int]:
    """All connections in one moment, each with one request after the other on it."""
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", "-d30s", server.url]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as wrk:
        try:
            wait_until(lambda: held(server), "all connections are accepted", seconds=25)
            return counts(server)
        finally:
            wrk.kill()


def one_by_one(server: Server) -> list[int]:
    """Each connection once the one before has been answered; they stay, idle."""
    host, port = server.bind.split(":")
    with ExitStack() as stack:
        for _ in range(CONNECTIONS):
            stack.enter_context(answered(connect((host, int(port)))))
        wait_until(lambda: held(server), "all connections are accepted")
        return counts(server)


def measure(come: Callable[[Server], list[int]]) -> dict[str, Any]:
    """Shares of each round's workers, and the smallest of all."""
    options = (f"--workers={WORKERS}", "--keep-alive=60")
    with ExitStack() as stack:
        servers = [stack.enter_context(Server(kind, APP, *options)) for kind in (OURS, STOCK)]
        for server in servers:
            wait_until(lambda: booted(server), "all workers serve")  # noqa: B023  (called here)
        rounds: dict[str, list[list[int]]] = {OURS: [], STOCK: []}
        for number in range(ROUNDS):
            for server in servers[:: 1 if number % 2 else -1]:
                rounds[server.kind].append(come(server))
                wait_until(lambda: not sum(counts(server)), "they are closed")  # noqa: B023
                time.sleep(0.2)
    return {
        kind: {
            "lowest_percent": round(min(map(min, found)) / CONNECTIONS * 100, 1),
            "rounds": [[round(each / CONNECTIONS * 100) for each in shares] for shares in found],
        }
        for kind, found in rounds.items()
    }


def booted(server: Server) -> bool:
    """Whether every worker has come up."""
    return server.output().count("Booting worker") == WORKERS


def main() -> None:
    """Measure, print and write."""
    for name, come in (("all at once", at_once), ("one after the other", one_by_one)):
        found = measure(come)
        print(name, found, flush=True)
        save("workers", {name: found})
    draw()


if __name__ == "__main__":
    main()
