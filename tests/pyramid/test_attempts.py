"""Attempts at requests as they are counted, bounded and switched off."""

from threading import Thread
from time import monotonic
from typing import Any

import pyramid_zodbconn
import pytest
import transaction
from pyramid.response import Response
from ZODB.POSException import ConflictError

from nti.appserver.transactions import connection, on_commit, run
from nti.appserver.transactions.instruments import (
    ABORTED,
    COMMITTED,
    CONFLICTS,
    FAILED,
    UNAVAILABLE,
)
from nti.appserver.transactions.turns import wait_for_turn

from .conftest import Serve, put
from .test_units_of_work import Stored, conflicting


@pytest.mark.parametrize("answered", [True, False])
def test_conflicts_are_counted_whether_exception_views_answer_them_or_not(
    serve: Serve, answered: bool
) -> None:
    def extend(config: Any) -> None:
        if answered:
            config.add_exception_view(lambda request: Response(status=503), context=Exception)

    counted = (CONFLICTS.labels("TransientError"), FAILED, COMMITTED, ABORTED, UNAVAILABLE)
    before = [each.value for each in counted]
    client = serve(conflicting(2), extend)
    client.post("/")
    assert [each.value for each in counted] == [
        was + more for was, more in zip(before, (2, 2, 1, 0, 0), strict=True)
    ]
    serve(conflicting(99), extend).post("/", status=503)
    assert [each.value for each in counted] == [
        was + more for was, more in zip(before, (5, 5, 1, 0, 1), strict=True)
    ]


def test_a_request_with_one_attempt_changes_a_contended_object_all_the_same(
    serve: Serve, stored: Stored
) -> None:
    """There is no other attempt to wait for."""
    oid = run(lambda: connection().root()._p_oid)
    turn = wait_for_turn(ConflictError(oid=oid), monotonic() + 20)
    assert turn is not None
    try:
        serve(put, **{"retry.activate_hook": lambda request: 1}).post("/")
    finally:
        turn.end()
    assert stored("x") == 1


def test_effects_belong_to_transactions_of_its_own(serve: Serve) -> None:
    """Of a request for which it is switched off."""
    seen: list[str] = []

    def view(request: Any) -> Response:
        with transaction.manager:
            on_commit(seen.append, "effect")
            seen.append("last")
        transaction.begin()
        on_commit(seen.append, "aborted")
        transaction.abort()
        on_commit(seen.append, "at once")
        return Response("done")

    serve(view, **{"tm.activate_hook": lambda request: False}).post("/")
    assert seen == ["last", "effect", "at once"]


def test_transactions_of_its_own_see_what_is_stored_when_they_begin(
    serve: Serve, stored: Stored
) -> None:
    """Of a request for which it is switched off."""
    seen: list[Any] = []

    def view(request: Any) -> Response:
        leased = pyramid_zodbconn.get_connection(request)
        with transaction.manager:
            seen.append(leased.root().get("x"))
        other = Thread(target=run, args=(put, request, len(seen)))
        other.start()
        other.join(30)
        with transaction.manager:
            seen.append(leased.root().get("x"))
            leased.root()["y"] = 2
        return Response("done")

    run(put, None, 0)  # its connection is not new
    serve(view, **{"tm.activate_hook": lambda request: False}).post("/")
    assert seen == [0, 1]
    assert stored("y") == 2
