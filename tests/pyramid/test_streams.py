"""Responses that are made while they are sent, from Pyramid views."""

from typing import Any

from pyramid.response import Response
from transaction.interfaces import TransientError

from nti.appserver.transactions import connection, on_commit
from nti.appserver.transactions.instruments import LEASES

from .conftest import Serve, put
from .test_units_of_work import Stored, fail_in


def test_streamed_responses_go_on_in_a_second_unit_of_work(serve: Serve, stored: Stored) -> None:
    order: list[Any] = []

    def view(request: Any) -> Response:
        def chunks() -> Any:
            put(request, 5)
            on_commit(order.append, "committed")
            yield b"first "
            order.append("rest")
            yield str(connection().root()["x"]).encode()

        return Response(app_iter=chunks(), content_length=7)

    before = LEASES.value
    answer = serve(view).post("/")
    assert answer.body == b"first 5"
    assert answer.content_length == 7
    assert order == ["committed", "rest"]
    assert LEASES.value == before


def test_an_error_in_the_first_chunk_is_for_exception_views(serve: Serve, stored: Stored) -> None:
    def view(request: Any) -> Response:
        def chunks() -> Any:
            put(request)
            raise ValueError("early")
            yield b""

        return Response(app_iter=chunks())

    def on_error(problem: Exception, request: Any) -> Response:
        return Response("sorry", status=500)

    client = serve(view, lambda config: config.add_exception_view(on_error, context=ValueError))
    assert client.post("/", status=500).body == b"sorry"
    assert stored("x") is None


def test_a_stream_of_an_attempt_that_conflicts_is_closed(serve: Serve, stored: Stored) -> None:
    closed: list[int] = []

    def view(request: Any) -> Response:
        number = request.environ["retry.attempt"]

        def chunks() -> Any:
            try:
                if number == 0:
                    fail_in("tpc_vote", TransientError())
                yield str(number).encode()
                yield b"!"
            finally:
                closed.append(number)

        return Response(app_iter=chunks())

    before = LEASES.value
    assert serve(view).post("/").body == b"1!"
    assert closed == [0, 1]
    assert LEASES.value == before
