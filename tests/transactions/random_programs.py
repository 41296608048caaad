"""Random programs of requests against a model; `test_random_programs` runs it in a patched process.

Requests run at the same time in greenlets: they read and change shared
counters, wait, conflict, fail, are vetoed, doomed or killed, and queue effects.
Whatever happens, these must agree: the answers given, the effects that
happened, and the two databases. They go through the WSGI middleware or through Pyramid,
in greenlets of their own or in the server's pooled ones, which keep their transaction managers.
"""

import os
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import gevent
import transaction
import ZODB
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyramid.config import Configurator
from pyramid.request import Request
from pyramid.response import Response
from transaction.interfaces import TransientError

from nti.appserver.http.pool import Pool
from nti.appserver.settings import Settings
from nti.appserver.transactions import (
    TransactionMiddleware,
    configure,
    connection,
    on_abort,
    on_commit,
    use_database,
)
from nti.appserver.transactions.instruments import LEASES

#: How many programs to try; the soak says more, and tries others each time.
SOAK = int(os.environ.get("RANDOM_PROGRAMS", "0"))
EXAMPLES = SOAK or 150

COUNTERS = 3
ATTEMPTS = 4
HOOKS = ("addBeforeCommitHook", "addAfterCommitHook", "addBeforeAbortHook", "addAfterAbortHook")
PHASES = ("tpc_begin", "commit", "tpc_vote", "tpc_finish", "tpc_abort", "abort")


@dataclass(frozen=True)
class Program:
    """What one request does."""

    changes: tuple[tuple[int, int], ...]  # a counter, and by how much
    switches: int  # how often it waits between two changes
    conflicts: int  # attempts that are told to conflict
    end: str
    effects: int
    waits_in: str  # a phase of the commit in which it waits
    first: bool  # whether it waits before the database does its part of the phase
    hook: str  # a hook of the transaction that waits
    killed_after: int  # turns of the hub until it is killed; 0: it is not
    kill_with: type[BaseException]


PROGRAMS = st.builds(
    Program,
    changes=st.lists(st.tuples(st.integers(0, COUNTERS - 1), st.integers(1, 9)), max_size=3).map(
        tuple
    ),
    switches=st.integers(0, 2),
    conflicts=st.integers(0, 3),
    end=st.sampled_from(["ok", "ok", "ok", "error", "404", "doom", "stream"]),
    effects=st.integers(0, 3),
    waits_in=st.sampled_from(["", *PHASES, "tpc_finish"]),
    first=st.booleans(),
    hook=st.sampled_from(["", "", *HOOKS]),
    killed_after=st.one_of(st.just(0), st.integers(1, 12), st.integers(1, 12)),
    kill_with=st.sampled_from([gevent.GreenletExit, gevent.Timeout, ValueError, TransientError]),
)


class Waits:
    """A data manager that waits for some turns of the hub in one phase."""

    transaction_manager = None

    def __init__(self, phase: str, key: str) -> None:
        self.phase = phase
        self.key = key

    def sortKey(self) -> str:
        return self.key

    def __getattr__(self, name: str) -> Any:
        if name not in PHASES:
            raise AttributeError(name)

        return wait if name == self.phase else lambda tx: None


def wait(*_: Any) -> None:
    """Wait for some turns of the hub."""
    for _ in range(4):
        gevent.sleep(0)


@dataclass
class World:
    """What is known outside of the database."""

    effects: dict[int, list[int]] = field(default_factory=dict)
    aborted: Counter[int] = field(default_factory=Counter)
    attempts: Counter[int] = field(default_factory=Counter)
    answers: dict[int, str] = field(default_factory=dict)

    def work(self, number: int, program: Program) -> str:
        """One attempt at a request; its status."""
        self.attempts[number] += 1
        on_abort(self.aborted.update, [number])
        root = connection().root()
        for counter, amount in program.changes:
            value = root[counter]
            for _ in range(program.switches):
                gevent.sleep(0)
            root[counter] = value + amount
        for each in (root, connection("beside").root()):
            each[f"done {number}"] = each.get(f"done {number}", 0) + 1
        for place in range(program.effects + 1):
            on_commit(self.effects.setdefault(number, []).append, place)
        if program.waits_in:
            transaction.get().join(Waits(program.waits_in, "" if program.first else "zz"))
        if program.hook:
            getattr(transaction.get(), program.hook)(wait)
        if self.attempts[number] <= program.conflicts:
            raise TransientError
        if program.end == "error":
            raise KeyError("told to")
        if program.end == "doom":
            transaction.doom()
        return "404 Not Found" if program.end == "404" else "200 OK"

    def serve(self, application: Any, number: int, program: Program) -> None:
        environ = Request.blank(f"/{number}", method="POST").environ
        environ["program"] = (self, number, program)

        def start_response(status: str, headers: Any, exc_info: Any = None) -> Any:
            self.answers[number] = status

        body = application(environ, start_response)
        try:
            assert b"".join(body) == b"ab" or self.answers[number].startswith("503")
        finally:
            if hasattr(body, "close"):
                body.close()


def body_of(program: Program) -> Any:
    return (each for each in (b"a", b"b")) if program.end == "stream" else [b"ab"]


def wsgi_app(environ: Any, start_response: Any) -> Any:
    world, number, program = environ["program"]
    start_response(world.work(number, program), [])
    return body_of(program)


def view(request: Request) -> Response:
    world, number, program = request.environ["program"]
    return Response(status=world.work(number, program), app_iter=body_of(program))


def pyramid_app() -> Any:
    config = Configurator(settings={"retry.attempts": str(ATTEMPTS)})
    config.include("nti.appserver")
    config.add_route("view", "/*path")
    config.add_view(view, route_name="view")
    return config.make_wsgi_app()


APPLICATIONS = {"wsgi": TransactionMiddleware(wsgi_app), "pyramid": pyramid_app()}


class Spawned:
    """A request in a greenlet of its own."""

    def __init__(self, *call: Any) -> None:
        self._greenlet = gevent.spawn(*call)

    @property
    def is_over(self) -> bool:
        return bool(self._greenlet.dead)

    def kill(self, problem: type[BaseException]) -> None:
        self._greenlet.kill(problem, block=False)


class Pooled:
    """A request in one of the server's greenlets, which has served others before."""

    pool: Pool | None = None

    def __init__(self, *call: Any) -> None:
        self._call = call
        self._greenlet: Any = None
        self.is_over = False
        Pooled.pool = Pooled.pool or Pool(gevent.get_hub(), lambda problem: None)
        gevent.get_hub().loop.run_callback(Pooled.pool.run, self._work, None, None)

    def _work(self, *_: Any) -> None:
        self._greenlet = gevent.getcurrent()
        func, *args = self._call
        try:
            func(*args)
        finally:
            self.is_over, self._greenlet = True, None

    def kill(self, problem: type[BaseException]) -> None:
        gevent.get_hub().loop.run_callback(self._throw, problem)

    def _throw(self, problem: type[BaseException]) -> None:
        if self._greenlet is not None:
            self._greenlet.throw(problem)


def carry_out(
    world: World, start: type[Spawned | Pooled], application: Any, programs: list[Program]
) -> None:
    """Run all at the same time; kills arrive at their turns."""
    requests = [
        start(world.serve, application, number, program) for number, program in enumerate(programs)
    ]
    for turn in range(1, 24):
        gevent.sleep(0)
        for request, program in zip(requests, programs, strict=True):
            if program.killed_after == turn:
                request.kill(program.kill_with)
    with gevent.Timeout(30, AssertionError("a greenlet hangs")):
        while not all(request.is_over for request in requests):
            gevent.sleep(0.001)


def check(world: World, programs: list[Program], root: Any, beside: Any) -> None:
    """The databases, the effects and the answers agree."""
    expected = [0] * COUNTERS
    for number, program in enumerate(programs):
        committed = root.get(f"done {number}", 0)
        assert committed in (0, 1), "committed twice"
        assert beside.get(f"done {number}", 0) == committed, "half a commit"
        assert world.effects.get(number, []) == list(range(program.effects + 1)) * committed
        answer = world.answers.get(number)
        if answer == "200 OK" and program.end != "doom":
            assert committed
        if answer is not None and (answer != "200 OK" or program.end == "doom"):
            assert not committed
        if answer is None:
            assert program.killed_after or program.end == "error"
        if program.end in ("error", "404", "doom"):
            assert not committed
        # An attempt ends in one way: its transaction commits or it aborts.
        begun = world.attempts[number]
        assert world.aborted[number] == begun - committed
        for counter, amount in program.changes * committed:
            expected[counter] += amount
    assert [root[counter] for counter in range(COUNTERS)] == expected


@settings(
    max_examples=EXAMPLES,
    derandomize=not SOAK,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(
    st.sampled_from(sorted(APPLICATIONS)),
    st.sampled_from([Spawned, Pooled]),
    st.lists(PROGRAMS, min_size=1, max_size=6),
)
def test_the_database_the_effects_and_the_answers_always_agree(
    through: str, start: type[Spawned | Pooled], programs: list[Program]
) -> None:
    configure(Settings(attempts=ATTEMPTS, connection_limit=3))
    databases: dict[str, Any] = {}
    database = ZODB.DB(None, databases=databases, database_name="main")
    other = ZODB.DB(None, databases=databases, database_name="beside")
    use_database(database)
    with database.transaction() as opened:
        for counter in range(COUNTERS):
            opened.root()[counter] = 0
    before = LEASES.value
    world = World()
    carry_out(world, start, APPLICATIONS[through], programs)
    assert LEASES.value == before, "a connection was not given back"
    with database.transaction() as opened:
        check(world, programs, opened.root(), opened.get_connection("beside").root())
    database.close()
    other.close()
