"""A kill or timeout at the end of a unit of work; `test_greenlets` runs these patched.

An exception may arrive wherever a greenlet waits, and be of any class. Once the
commit is certain it changes nothing of it, and nobody is told otherwise.
"""

from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest
import transaction
from pyramid.config import Configurator
from pyramid.request import Request
from pyramid.response import Response
from transaction.interfaces import TransientError

from nti.appserver.errors import ServiceUnavailable
from nti.appserver.transactions import (
    TransactionMiddleware,
    connection,
    on_abort,
    on_commit,
    run,
)
from nti.appserver.transactions.instruments import LEASES

from .waiting import Waiting

Stored = Callable[[str], Any]

#: What arrives: kills, timeouts, and what would be tried again or answered if it came earlier.
ARRIVING = [gevent.GreenletExit, gevent.Timeout, TransientError, ServiceUnavailable, TypeError]


@pytest.fixture(autouse=True)
def _all_leases_come_back(database: Any) -> Iterator[None]:
    before = LEASES.value
    yield
    assert LEASES.value == before, "a connection was not given back"


def put(name: str, value: Any) -> None:
    connection().root()[name] = value


class Case:
    """A unit of work that counts its attempts and waits at its end."""

    def __init__(self, phase: str = "tpc_finish") -> None:
        self.waiting = Waiting(phase)
        self.attempts = 0
        self.effects: list[str] = []
        self.answers: list[str] = []

    def work(self) -> None:
        self.attempts += 1
        put("x", self.attempts)
        on_commit(self.effects.append, "committed")
        on_abort(self.effects.append, "aborted")
        transaction.get().join(self.waiting)

    def throw(self, greenlet: gevent.Greenlet, problem: type[BaseException]) -> None:
        """Throw once the unit of work waits, and let it go on after that."""
        assert self.waiting.reached.wait(20)
        gevent.get_hub().loop.run_callback(greenlet.throw, problem)
        gevent.sleep(0.01)
        assert not greenlet.dead, "it waits for its end"
        self.waiting.go_on.set()
        greenlet.join(20)
        assert greenlet.dead

    def request(self, app: Any) -> gevent.Greenlet:
        """A greenlet that has an application answer a request."""
        environ = Request.blank("/", method="POST").environ

        def start_response(status: str, headers: Any, exc_info: Any = None) -> None:
            self.answers.append(status)

        return gevent.spawn(app, environ, start_response)


def ended_by(greenlet: gevent.Greenlet) -> type[BaseException]:
    return type(greenlet.exception or greenlet.value)


@pytest.mark.parametrize("problem", ARRIVING)
def test_what_arrives_after_the_vote_is_raised_when_all_is_done(
    problem: type[BaseException], stored: Stored
) -> None:
    case = Case()
    greenlet = gevent.spawn(run, case.work)
    case.throw(greenlet, problem)
    assert ended_by(greenlet) is problem
    assert (case.attempts, case.effects, stored("x")) == (1, ["committed"], 1)


@pytest.mark.parametrize("problem", ARRIVING)
def test_wsgi_what_arrives_after_the_vote_is_neither_tried_again_nor_answered(
    problem: type[BaseException], stored: Stored
) -> None:
    case = Case()

    def app(environ: Any, start_response: Any) -> list[bytes]:
        case.work()
        start_response("200 OK", [])
        return [b"done"]

    greenlet = case.request(TransactionMiddleware(app))
    case.throw(greenlet, problem)
    assert ended_by(greenlet) is problem
    assert case.answers == [], "the client was told of a failure, or of success"
    assert (case.attempts, case.effects, stored("x")) == (1, ["committed"], 1)


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("problem", ARRIVING)
def test_pyramid_what_arrives_after_the_vote_is_neither_tried_again_nor_answered(
    problem: type[BaseException], streams: bool, stored: Stored
) -> None:
    case = Case()

    def view(request: Request) -> Response:
        case.work()
        return Response(app_iter=(each for each in (b"a", b"b")) if streams else [b"ab"])

    def on_error(raised: Exception, request: Request) -> Response:
        case.answers.append("an exception view")
        return Response("sorry", status=500)

    greenlet = case.request(application(view, on_error))
    case.throw(greenlet, problem)
    assert ended_by(greenlet) is problem
    assert case.answers == [], "the client was told of a failure, or of success"
    assert (case.attempts, case.effects, stored("x")) == (1, ["committed"], 1)


def application(view: Any, on_error: Any) -> Any:
    config = Configurator()
    config.include("nti.appserver")
    config.add_route("view", "/")
    config.add_view(view, route_name="view")
    config.add_exception_view(on_error, context=Exception)
    return config.make_wsgi_app()


def test_pyramid_a_kill_before_the_vote_ends_a_streamed_response(stored: Stored) -> None:
    case = Case("tpc_begin")
    case.waiting.go_on.clear()

    def view(request: Request) -> Response:
        case.work()
        return Response(app_iter=(each for each in (b"a", b"b")))

    greenlet = case.request(application(view, lambda raised, request: Response(status=500)))
    assert case.waiting.reached.wait(20)
    greenlet.kill(timeout=20)
    assert (case.answers, case.effects, stored("x")) == ([], ["aborted"], None)


def test_a_kill_while_a_conflict_is_undone_is_not_tried_again(stored: Stored) -> None:
    case = Case("tpc_abort")

    def conflict() -> None:
        case.work()
        transaction.get().join(Failing())

    greenlet = gevent.spawn(run, conflict)
    case.throw(greenlet, gevent.GreenletExit)
    assert ended_by(greenlet) is gevent.GreenletExit
    assert (case.attempts, case.effects, stored("x")) == (1, ["aborted"], None)


class Failing(Waiting):
    """Conflicts when it votes."""

    def __init__(self) -> None:
        super().__init__("", key="zzz")

    def __getattr__(self, name: str) -> Any:
        if name == "tpc_vote":
            raise TransientError("in vote")
        return super().__getattr__(name)


def test_a_kill_does_not_end_the_effects_of_an_abort() -> None:
    reached, go_on = gevent.event.Event(), gevent.event.Event()
    seen: list[str] = []

    def wait() -> None:
        reached.set()
        go_on.wait(20)
        seen.append("waited")

    def work() -> None:
        on_abort(wait)
        on_abort(seen.append, "and the next")
        raise ValueError("told to")

    greenlet = gevent.spawn(run, work)
    assert reached.wait(20)
    greenlet.kill(block=False)
    gevent.sleep(0.01)
    go_on.set()
    greenlet.join(20)
    assert ended_by(greenlet) is gevent.GreenletExit
    assert seen == ["waited", "and the next"]


def test_a_synchronizer_that_is_killed_or_fails_after_the_commit_changes_nothing(
    stored: Stored, caplog: pytest.LogCaptureFixture
) -> None:
    """Storages tell their servers of the end there, and wait."""
    case = Case("")
    told: list[str] = []

    class Synchronizer:
        def newTransaction(self, tx: Any) -> None:
            pass

        beforeCompletion = newTransaction

        def afterCompletion(self, tx: Any) -> None:
            case.waiting.reached.set()
            case.waiting.go_on.wait(20)
            told.append("told")
            raise TransientError("the server has gone")

    synchronizer = Synchronizer()

    def work() -> None:
        transaction.manager.registerSynch(synchronizer)
        case.work()

    greenlet = gevent.spawn(run, work)
    case.throw(greenlet, gevent.GreenletExit)
    assert ended_by(greenlet) is gevent.GreenletExit
    assert told == ["told"]
    assert "the server has gone" in caplog.text
    assert (case.attempts, case.effects, stored("x")) == (1, ["committed"], 1)
