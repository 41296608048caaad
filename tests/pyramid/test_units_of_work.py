"""Requests of Pyramid applications as units of work; each semantic with a test named after it."""

import time
from collections.abc import Callable
from typing import Any

import pyramid_zodbconn
import pytest
import transaction
import ZODB
from pyramid.authentication import RemoteUserAuthenticationPolicy
from pyramid.authorization import ACLAuthorizationPolicy
from pyramid.config import Configurator
from pyramid.exceptions import ConfigurationConflictError
from pyramid.httpexceptions import HTTPFound, HTTPNotFound
from pyramid.request import Request as PlainRequest
from pyramid.response import Response
from pyramid_retry import IBeforeRetry, mark_error_retryable
from transaction.interfaces import TransientError
from webtest import TestApp
from ZEO.Exceptions import ClientDisconnected

from nti.appserver.errors import ServiceUnavailable
from nti.appserver.settings import Settings
from nti.appserver.transactions import (
    TransactionMiddleware,
    configure,
    connection,
    on_commit,
    use_database,
)
from nti.appserver.transactions.instruments import LEASES

from .conftest import Serve, put

Stored = Callable[[str], Any]


class Failing:
    """A data manager that fails in one phase."""

    transaction_manager = None

    def __init__(self, phase: str, problem: Exception) -> None:
        self.phase = phase
        self.problem = problem

    def sortKey(self) -> str:
        return "failing"

    def __getattr__(self, name: str) -> Any:
        if name not in ("tpc_begin", "commit", "tpc_vote", "tpc_finish", "tpc_abort", "abort"):
            raise AttributeError(name)

        def called(tx: Any) -> None:
            if name == self.phase:
                raise self.problem

        return called


def fail_in(phase: str, problem: Exception) -> None:
    transaction.get().join(Failing(phase, problem))


def conflicting(times: int, view: Callable[[Any], Any] = put) -> Callable[[Any], Any]:
    calls: list[Any] = []

    def conflict(request: Any) -> Any:
        calls.append(request)
        response = view(request)
        if len(calls) <= times:
            raise TransientError("told to")
        return response

    conflict.calls = calls  # type: ignore[attr-defined]
    return conflict


def test_what_a_view_writes_is_stored(serve: Serve, stored: Stored) -> None:
    assert serve(put).post("/").body == b"done"
    assert stored("x") == 1


def test_the_commit_happens_inside_the_router(serve: Serve, stored: Stored) -> None:
    """Callbacks and subscribers that follow see it; the lease lasts until they are through."""
    seen: list[Any] = []

    def view(request: Any) -> Response:
        root = connection().root()
        root["x"] = 1
        request.add_response_callback(lambda request, response: seen.append(stored_now()))
        request.add_finished_callback(lambda request: seen.append(connection().root() is root))
        on_commit(seen.append, "committed")
        return Response("done")

    def stored_now() -> Any:
        other = transaction.TransactionManager()
        beside = connection().db().open(other)
        try:
            return beside.root().get("x")
        finally:
            beside.close()

    before = LEASES.value
    serve(view).post("/")
    assert seen == ["committed", 1, True]
    assert LEASES.value == before


def test_each_attempt_has_a_fresh_request_and_is_numbered(serve: Serve, stored: Stored) -> None:
    numbers: list[Any] = []

    def view(request: Any) -> Response:
        numbers.append((request.environ["retry.attempt"], request.environ["retry.attempts"]))
        assert not hasattr(request, "marked")
        request.marked = True
        return put(request)

    conflict = conflicting(2, view)
    serve(conflict).post("/")
    assert numbers == [(0, 3), (1, 3), (2, 3)]
    assert len(set(map(id, conflict.calls))) == 3  # type: ignore[attr-defined]
    assert stored("x") == 1


def test_bodies_are_replayed_on_retry(serve: Serve, stored: Stored) -> None:
    seen: list[Any] = []

    def view(request: Any) -> Response:
        seen.append((request.POST["a"], request.body))
        return put(request)

    serve(conflicting(2, view)).post("/", {"a": "b"})
    assert seen == [("b", b"a=b")] * 3


def test_what_cannot_be_replayed_is_not_retried(serve: Serve) -> None:
    configure(Settings(body_replay=10))
    conflict = conflicting(9, lambda request: Response(request.body))
    serve(conflict).post("/", b"x" * 100, status=503)
    assert len(conflict.calls) == 1  # type: ignore[attr-defined]


@pytest.mark.parametrize(("timeout", "attempts"), [(0.01, 1), (60, 3)])
def test_a_storage_that_stays_away_is_waited_for_once(
    serve: Serve, timeout: float, attempts: int
) -> None:
    configure(Settings(storage_timeout=timeout))
    calls = []

    def view(request: Any) -> Response:
        calls.append(1)
        time.sleep(0.02)
        raise ClientDisconnected("timed out waiting for connection")

    answer = serve(view).post("/", status=503)
    assert answer.text == "The storage is away.\n"
    assert len(calls) == attempts


@pytest.mark.parametrize("where", ["view", "commit"])
def test_conflicts_that_outlast_the_attempts_are_503_with_retry_after(
    serve: Serve, stored: Stored, where: str
) -> None:
    def view(request: Any) -> Response:
        if where == "view":
            raise TransientError
        fail_in("tpc_vote", TransientError())
        return put(request)

    answer = serve(view).post("/", status=503)
    assert int(answer.headers["Retry-After"]) >= 1
    assert stored("x") is None


def test_a_commit_error_is_a_clean_5xx_never_half_a_response(serve: Serve) -> None:
    def view(request: Any) -> Response:
        fail_in("tpc_vote", ValueError("in vote"))
        return Response("never")

    with pytest.raises(ValueError, match="in vote"):
        serve(view).post("/")


def test_exception_views_answer_a_commit_error(serve: Serve) -> None:
    def view(request: Any) -> Response:
        fail_in("tpc_vote", ValueError("in vote"))
        return Response("never")

    def on_error(problem: Exception, request: Any) -> Response:
        return Response(f"sorry: {problem}", status=500)

    client = serve(view, lambda config: config.add_exception_view(on_error, context=ValueError))
    assert client.post("/", status=500).body == b"sorry: in vote"


def test_exception_views_run_inside_the_transaction_and_abort_it(
    serve: Serve, stored: Stored
) -> None:
    def view(request: Any) -> Response:
        put(request)
        raise ValueError("mine")

    def on_error(problem: Exception, request: Any) -> Response:
        assert request.environ["tm.active"]
        assert connection().root()["x"] == 1
        return Response("sorry", status=500)

    client = serve(view, lambda config: config.add_exception_view(on_error, context=ValueError))
    assert client.post("/", status=500).body == b"sorry"
    assert stored("x") is None


def test_a_conflict_that_an_exception_view_answers_is_tried_again(
    serve: Serve, stored: Stored
) -> None:
    def on_error(problem: Exception, request: Any) -> Response:
        return Response("conflict", status=500)

    conflict = conflicting(2)
    client = serve(
        conflict, lambda config: config.add_exception_view(on_error, context=TransientError)
    )
    assert client.post("/").body == b"done"
    assert len(conflict.calls) == 3  # type: ignore[attr-defined]


@pytest.mark.parametrize(("raised", "stores"), [(HTTPFound, True), (HTTPNotFound, False)])
def test_a_raised_response_commits_or_aborts_as_its_status_says(
    serve: Serve, stored: Stored, raised: Any, stores: bool
) -> None:
    def view(request: Any) -> Response:
        put(request)
        raise raised("/elsewhere")

    serve(view).post("/", status="*")
    assert (stored("x") == 1) is stores


@pytest.mark.parametrize(
    ("status", "headers", "stores"),
    [
        (200, {}, True),
        (302, {}, True),
        (404, {}, False),
        (500, {}, False),
        (200, {"X-Tm": "abort"}, False),
        (500, {"X-Tm": "commit"}, True),
    ],
)
def test_veto_by_status_or_header(
    serve: Serve, stored: Stored, status: int, headers: dict[str, str], stores: bool
) -> None:
    def view(request: Any) -> Response:
        put(request)
        return Response("x", status=status, headers=headers)

    serve(view).post("/", status="*")
    assert (stored("x") == 1) is stores


def test_the_veto_may_be_replaced_or_left_out(serve: Serve, stored: Stored) -> None:
    def view(request: Any) -> Response:
        put(request, request.path)
        return Response("x", status=404)

    serve(view, **{"tm.commit_veto": ""}).post("/a", status=404)
    assert stored("x") == "/a"
    serve(view, **{"tm.commit_veto": lambda request, response: True}).post("/b", status=404)
    assert stored("x") == "/a"


def test_get_and_head_are_free_of_side_effects(
    serve: Serve, stored: Stored, caplog: pytest.LogCaptureFixture
) -> None:
    serve(put).get("/path")
    assert stored("x") is None
    assert "GET /path" in caplog.text
    configure(Settings(strict_reads=True))
    with pytest.raises(Exception, match="should only read"):
        serve(put).get("/")
    serve(put, **{"tm.writes_in_reads": "true"}).get("/")
    assert stored("x") == 1


def test_doomed_transactions_abort(serve: Serve, stored: Stored) -> None:
    def view(request: Any) -> Response:
        request.tm.doom()
        return put(request)

    assert serve(view).post("/").body == b"done"
    assert stored("x") is None


def test_request_tm_is_the_manager_of_the_unit_of_work(serve: Serve) -> None:
    def view(request: Any) -> Response:
        assert request.tm is transaction.manager
        assert request.tm.get() is transaction.get()
        assert request.environ["tm.manager"] is request.tm
        return Response("done")

    serve(view).post("/")


def test_a_manager_of_ones_own(serve: Serve, stored: Stored) -> None:
    made: list[Any] = []

    def make(request: Any) -> Any:
        made.append(transaction.TransactionManager(explicit=True))
        return made[-1]

    def view(request: Any) -> Response:
        assert request.tm is made[0]
        assert connection().transaction_manager is made[0]
        return put(request)

    serve(view, **{"tm.manager_hook": make}).post("/")
    assert len(made) == 1
    assert stored("x") == 1


def test_pyramid_zodbconn_gives_our_lease(serve: Serve, stored: Stored) -> None:
    def view(request: Any) -> Response:
        leased = pyramid_zodbconn.get_connection(request)
        assert leased is connection()
        leased.root()["x"] = 1
        return Response("done")

    serve(view).post("/")
    assert stored("x") == 1


def test_pyramid_zodbconn_configured_keeps_its_own_database(serve: Serve, stored: Stored) -> None:
    def view(request: Any) -> Response:
        pyramid_zodbconn.get_connection(request).root()["x"] = "theirs"
        pyramid_zodbconn.get_connection(request, "beside").root()["x"] = "beside"
        return Response("done")

    client = serve(
        view,
        lambda config: config.include("pyramid_zodbconn"),
        **{"zodbconn.uri": "memory://", "zodbconn.uri.beside": "memory://?database_name=beside"},
    )
    client.post("/")
    databases = client.app.registry._zodb_databases
    for name, value in (("", "theirs"), ("beside", "beside")):
        opened = databases[name].open(transaction.TransactionManager())
        assert opened.root()["x"] == value
        opened.close()
        databases[name].close()
    assert stored("x") is None


def test_what_is_written_each_way_is_there_after_a_restart(serve: Serve, tmp_path: Any) -> None:
    path = str(tmp_path / "data.fs")
    database = ZODB.DB(path)
    use_database(database)

    def view(request: Any) -> Response:
        connection().root()["ours"] = 1
        pyramid_zodbconn.get_connection(request).root()["theirs"] = 2
        request._primary_zodb_conn.root()["third"] = 3
        return Response("done")

    serve(view).post("/")
    database.close()
    again = ZODB.DB(path)
    opened = again.open()
    assert dict(opened.root()) == {"ours": 1, "theirs": 2, "third": 3}
    transaction.abort()
    opened.close()
    again.close()


def test_the_user_and_the_request_are_named_in_undo_logs(serve: Serve, tmp_path: Any) -> None:
    database = ZODB.DB(str(tmp_path / "data.fs"))
    use_database(database)

    def extend(config: Any) -> None:
        config.set_authorization_policy(ACLAuthorizationPolicy())
        config.set_authentication_policy(RemoteUserAuthenticationPolicy())

    with pytest.warns(DeprecationWarning, match="security policies"):
        client = serve(put, extend)
    client.post("/some/path", extra_environ={"REMOTE_USER": "ann"})
    entry = database.undoInfo()[0]
    assert entry["description"] == "POST /some/path"
    assert entry["user_name"].strip().endswith("ann")
    with pytest.warns(DeprecationWarning, match="security policies"):
        client = serve(put, extend, **{"tm.annotate_user": "false"})
    client.post("/other", extra_environ={"REMOTE_USER": "ann"})
    assert database.undoInfo()[0]["user_name"].strip() in ("", "/")
    database.close()


def test_a_subrequest_joins(serve: Serve, stored: Stored) -> None:
    def view(request: Any) -> Response:
        if request.path == "/inner":
            put(request)
            return Response("inner")
        sub = PlainRequest.blank("/inner", method="POST")
        answer = request.invoke_subrequest(sub, use_tweens=True)
        assert answer.body == b"inner"
        raise ValueError("outer")

    with pytest.raises(ValueError, match="outer"):
        serve(view).post("/outer")
    assert stored("x") is None


def test_an_answer_that_an_error_carries_is_given(serve: Serve) -> None:
    def view(request: Any) -> Response:
        raise ServiceUnavailable("full", retry_after=9)

    answer = serve(view).get("/", status=503)
    assert answer.headers["Retry-After"] == "9"


def test_marked_errors_are_tried_again_and_subscribers_told(serve: Serve) -> None:
    class Mine(Exception):
        pass

    mark_error_retryable(Mine)
    told: list[Any] = []
    calls: list[int] = []

    def view(request: Any) -> Response:
        calls.append(1)
        if len(calls) < 3:
            raise Mine
        return Response("done")

    serve(view, lambda config: config.add_subscriber(told.append, IBeforeRetry)).post("/")
    assert len(calls) == 3
    assert [type(event.exception) for event in told] == [Mine, Mine]


def test_the_attempts_are_a_setting(serve: Serve) -> None:
    for settings, expected in (
        ({"retry.attempts": "5"}, 5),
        ({"appserver.attempts": "2"}, 2),
        ({"retry.activate_hook": lambda request: 4}, 4),
    ):
        conflict = conflicting(99)
        serve(conflict, **settings).post("/", status=503)
        assert len(conflict.calls) == expected, settings  # type: ignore[attr-defined]


def test_it_may_be_switched_off_for_a_request(serve: Serve) -> None:
    def view(request: Any) -> Response:
        assert "tm.active" not in request.environ
        return Response("done")

    serve(view, **{"tm.activate_hook": lambda request: False}).post("/")


def test_view_predicates(serve: Serve) -> None:
    def view(request: Any) -> Response:
        raise TransientError

    def extend(config: Any) -> None:
        config.add_exception_view(
            lambda request: Response("again", status=500),
            context=TransientError,
            retryable_error=True,
        )
        config.add_exception_view(
            lambda request: Response("last", status=500),
            context=TransientError,
            last_retry_attempt=True,
            tm_active=True,
        )

    assert serve(view, extend).post("/", status=500).body == b"last"


def test_a_request_class_of_ones_own(serve: Serve, stored: Stored) -> None:
    class Mine(PlainRequest):
        pass

    def view(request: Any) -> Response:
        assert isinstance(request, Mine)
        assert request.tm is transaction.manager
        assert request.websocket is None
        pyramid_zodbconn.get_connection(request).root()["x"] = 1
        return Response("done")

    serve(view, lambda config: config.set_request_factory(Mine)).post("/")
    assert stored("x") == 1


@pytest.mark.parametrize("hidden", [False, True])
def test_the_wsgi_middleware_steps_aside(serve: Serve, stored: Stored, hidden: bool) -> None:
    """Whether it sees that the application is Pyramid's, or that is hidden behind another."""
    effects: list[int] = []

    def view(request: Any) -> Response:
        on_commit(effects.append, 1)
        return put(request)

    router = serve(conflicting(2, view)).app
    inner = (lambda environ, start: router(environ, start)) if hidden else router
    client = TestApp(TransactionMiddleware(inner))
    assert client.post("/").body == b"done"
    assert stored("x") == 1
    assert effects == [1]


def test_a_websocket_is_no_unit_of_work(serve: Serve) -> None:
    socket = object()

    def view(request: Any) -> Response:
        assert request.websocket is socket
        assert transaction.manager.manager._txn is None
        return Response("done")

    serve(view).get("/", extra_environ={"wsgi.websocket": socket})


def test_a_socketio_namespace_is_added_once(serve: Serve) -> None:
    class Namespace:
        namespace = "/chat"

    one = Namespace()
    client = serve(put, lambda config: config.add_socketio_namespace(one))
    assert client.app.registry["nti.appserver.namespaces"] == [one]

    def both(config: Any) -> None:
        config.add_socketio_namespace(Namespace())
        config.add_socketio_namespace(Namespace())

    with pytest.raises(ConfigurationConflictError):
        serve(put, both)


def test_pyramid_retry_beside_it_is_a_conflict() -> None:
    config = Configurator()
    config.include("nti.appserver")
    config.include("pyramid_retry")
    with pytest.raises(ConfigurationConflictError):
        config.make_wsgi_app()


def test_leases_are_given_back_when_a_finished_callback_fails(serve: Serve) -> None:
    def view(request: Any) -> Response:
        def fail(request: Any) -> None:
            raise KeyError("finished")

        request.add_finished_callback(fail)
        return put(request)

    before = LEASES.value
    with pytest.raises(KeyError, match="finished"):
        serve(view).post("/")
    assert LEASES.value == before
