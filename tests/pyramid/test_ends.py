"""How a Pyramid request's unit of work ends, when it does not end well."""

from typing import Any

import pytest
import transaction
from pyramid.response import Response
from transaction.interfaces import TransientError

from nti.appserver.errors import ServiceUnavailable
from nti.appserver.settings import Settings
from nti.appserver.transactions import configure, on_abort, on_commit
from nti.appserver.transactions.commit import InDoubt

from .conftest import Serve, put
from .test_units_of_work import Stored, conflicting, fail_in


def test_the_requests_deadline_ends_its_retries(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(Settings(request_deadline=0.1, attempts=100))
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    calls: list[int] = []

    def view(request: Any) -> Response:
        calls.append(1)
        now[0] += 0.06
        raise TransientError

    serve(view, **{"retry.attempts": "100"}).post("/", status=503)
    assert len(calls) == 2


def test_savepoints_roll_back_what_came_after(serve: Serve, stored: Stored) -> None:
    effects: list[str] = []

    def view(request: Any) -> Response:
        put(request, "before")
        on_commit(effects.append, "before")
        savepoint = transaction.savepoint()
        put(request, "after")
        on_commit(effects.append, "after")
        savepoint.rollback()
        return Response("done")

    serve(view).post("/")
    assert (stored("x"), effects) == ("before", ["before"])


def test_exceptions_after_the_vote_are_in_doubt_and_never_tried_again(serve: Serve) -> None:
    calls: list[str] = []

    def view(request: Any) -> Response:
        calls.append("attempt")
        on_commit(calls.append, "effect")
        fail_in("tpc_finish", TransientError())
        return put(request)

    with pytest.raises(InDoubt):
        serve(view).post("/")
    assert calls == ["attempt"]


def test_effects_happen_once_however_often_the_request_is_tried(
    serve: Serve, stored: Stored
) -> None:
    effects: list[str] = []

    def view(request: Any) -> Response:
        on_commit(effects.append, "committed")
        on_abort(effects.append, "aborted")
        return put(request)

    serve(conflicting(2, view)).post("/")
    assert effects == ["aborted", "aborted", "committed"]
    assert stored("x") == 1


def failing(handler: Any, registry: Any) -> Any:
    """A tween that fails when all is done, as the setting `problem` says."""

    def tween(request: Any) -> Any:
        handler(request)
        raise registry.settings["problem"]

    return tween


@pytest.mark.parametrize("problem", [TransientError, ServiceUnavailable])
def test_a_tween_that_fails_after_the_commit_causes_no_other_attempt(
    serve: Serve, stored: Stored, problem: type[Exception]
) -> None:
    """A conflict is the server's to answer then; an error that has an answer is given that."""
    calls: list[int] = []

    def view(request: Any) -> Response:
        calls.append(1)
        return put(request, len(calls))

    def extend(config: Any) -> None:
        ours = "nti.appserver.pyramid.tween.tween_factory"
        config.add_tween("tests.pyramid.test_ends.failing", over=ours)

    client = serve(view, extend, problem=problem)
    if problem is TransientError:
        with pytest.raises(TransientError):
            client.post("/")
    else:
        client.post("/", status=503)
    assert (calls, stored("x")) == ([1], 1)


def test_tm_active_means_that_a_transaction_is_under_way(serve: Serve) -> None:
    """For views and exception views; what runs from the commit on is told that it is over."""
    seen: list[tuple[str, bool, bool]] = []

    def note(where: str, request: Any) -> None:
        under_way = transaction.manager.manager._txn is not None
        seen.append((where, bool(request.environ.get("tm.active")), under_way))

    def view(request: Any) -> Response:
        note("view", request)
        request.add_response_callback(lambda request, response: note("response", request))
        request.add_finished_callback(lambda request: note("finished", request))
        on_commit(note, "effect", request)
        if "fails" in request.GET:
            raise ValueError("told to")
        return Response("done")

    def failed(problem: Any, request: Any) -> Response:
        note("exception view", request)
        return Response("failed", status=500)

    app = serve(view, lambda config: config.add_exception_view(failed, context=ValueError))
    app.post("/")
    after = [("effect", False, False), ("response", False, False), ("finished", False, False)]
    assert seen == [("view", True, True), *after]
    seen.clear()
    app.post("/?fails=1", status=500)
    assert seen == [("view", True, True), ("exception view", True, True), *after[1:]]
