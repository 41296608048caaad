"""CPU per request, side by side with other servers: python -m benchmarks.http.serving

Words that follow choose the cases with one of them in their names, `--against
KIND` the kinds of servers; what was measured of others stays as it was.

One serving process each, CPU of the whole process tree, rounds in which every
server has its turn, in alternating order. With words, only the cases that have
one of them in their names. Needs wrk.
"""

import argparse
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.common import load, per_request, summary
from benchmarks.http.plots import draw
from benchmarks.http.results import load as results
from benchmarks.http.results import save
from benchmarks.http.servers import BARE, GRANIAN, KINDS, OURS, STOCK, Server, installed

ROUNDS = 7
SECONDS = 1
POST = Path(__file__).with_name("post.lua")
PLAIN = "benchmarks.http.apps:app"
PYRAMID = "benchmarks.http.apps:pyramid()"

#: All others; granian with threads of its own choice is measured once.
PEERS = tuple(kind for kind in KINDS if kind not in (OURS, "granian", BARE))

GUNICORNS = (STOCK, "gunicorn gthread", "gunicorn gevent_pywsgi")


@dataclass(frozen=True)
class Case:
    """One kind of request.

    :ivar against: the kinds of servers; nothing: `PEERS`.
    :ivar log: whether an access log is written to a file.
    """

    name: str
    connections: int = 64
    path: str = "/"
    script: Path | None = None
    fields: tuple[str, ...] = ()
    app: str = PLAIN
    log: bool = False
    against: tuple[str, ...] = ()


CASES = [
    Case("hello, keep-alive, 64 connections", against=(*PEERS[:2], "granian", *PEERS[2:])),
    Case("hello, keep-alive, 256 connections", 256, against=(STOCK, GRANIAN)),
    Case("hello, keep-alive, 1 connection", 1),
    Case("10 kB JSON POST, 64 connections", script=POST),
    Case("1 MB response, 64 connections", path="/large", against=(*PEERS, BARE)),
    Case("1 MB response, 8 connections", 8, "/large", against=(STOCK, BARE)),
    Case("1 MB response made for each request, 64 connections", path="/made", against=(STOCK,)),
    Case("1 MB file by wsgi.file_wrapper, 64 connections", path="/file", against=GUNICORNS),
    Case("streamed response, 16 pieces of 4 kB, 64 connections", path="/streamed"),
    Case("hello, no keep-alive, 64 connections", fields=("Connection: close",)),
    Case(
        "Pyramid hello, access log to a file, 64 connections",
        app=PYRAMID,
        log=True,
        against=GUNICORNS,
    ),
]


def cost(server: Server, case: Case) -> float:
    """CPU seconds per request of one round."""
    url = server.url + case.path
    return per_request(
        [server.pid], lambda: load(url, case.connections, SECONDS, case.script, *case.fields)
    )[0]


@contextmanager
def serving(case: Case) -> Iterator[dict[str, Server]]:
    """A server of each kind that a case asks for, ours first."""
    kinds = [OURS, *(case.against or PEERS)]
    options = ("--access-logfile=access.log",) if case.log else ()
    with ExitStack() as stack:
        yield {
            kind: stack.enter_context(Server(kind, case.app, *options))
            for kind in kinds
            if installed(kind)
        }


def measure(case: Case) -> dict[str, Any]:
    """The figures of each server, and the ratios of ours to it."""
    with serving(case) as servers:
        failed = {kind: why for kind in servers if (why := warm(servers[kind], case))}
        rounds: dict[str, list[float]] = {kind: [] for kind in servers if kind not in failed}
        for number in range(ROUNDS):
            for kind in list(rounds)[:: 1 if number % 2 else -1]:
                rounds[kind].append(cost(servers[kind], case))
    found: dict[str, Any] = {
        kind: summary(rounds[OURS], rounds[kind]) for kind in rounds if kind != OURS
    }
    return {**found, **{kind: {"failed": why} for kind, why in failed.items()}}


def warm(server: Server, case: Case) -> str:
    """The first requests, which are not counted; what went wrong, if a peer cannot serve them.

    :raises RuntimeError: we cannot serve them.
    """
    try:
        cost(server, case)
    except RuntimeError as problem:
        if server.kind == OURS:
            raise
        return str(problem)
    return ""


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("words", nargs="*")
    parser.add_argument("--against", action="append", choices=list(KINDS))
    asked = parser.parse_args()
    before = results().get("serving", {})
    for case in CASES:
        if not asked.words or any(word in case.name for word in asked.words):
            found = measure(replace(case, against=asked.against or case.against))
            kept = before.get(case.name, {}) if asked.against else {}
            save("serving", {case.name: {**kept, **found}})
            print(case.name, flush=True)
            for kind, figures in found.items():
                print(f"  {kind:24}", figures, flush=True)
    draw()


if __name__ == "__main__":
    main()
