"""Streamed responses: the first chunk inside, the rest in a second unit of work that reads."""

import gc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import transaction
from transaction.interfaces import TransientError

from nti.appserver.settings import Settings
from nti.appserver.transactions import (
    TransactionMiddleware,
    configure,
    connection,
    on_commit,
    run,
)
from nti.appserver.transactions.current import slot
from nti.appserver.transactions.instruments import LEASES, REFUSED_READS
from nti.appserver.transactions.streaming import StreamExpired
from nti.appserver.transactions.units import Unit

Stored = Callable[[str], Any]


class Client:
    """Calls a middleware as a server does, and notes what happens."""

    def __init__(self, make: Callable[[Any], Any]) -> None:
        self.make = make
        self.status: str | None = None
        self.attempts = 0

    def app(self, environ: Any, start_response: Any) -> Any:
        self.attempts += 1
        start_response("200 OK", [])
        return self.make(self)

    def request(self, method: str = "POST") -> Any:
        def start_response(status: str, headers: Any, exc_info: Any = None) -> Any:
            self.status = status

        environ = {"REQUEST_METHOD": method, "PATH_INFO": "/s", "SCRIPT_NAME": ""}
        return TransactionMiddleware(self.app)(environ, start_response)


class Chunks:
    """Chunks that notice their end."""

    def __init__(self) -> None:
        self.closed = False
        self._chunks = iter((b"a", b"b"))

    def __iter__(self) -> Iterator[bytes]:
        return self._chunks

    def close(self) -> None:
        self.closed = True


class Closing(list[bytes]):
    """The same, all at once."""

    closed = False

    def close(self) -> None:
        self.closed = True


def put(value: Any) -> None:
    connection().root()["x"] = value


def test_the_first_chunk_is_pulled_inside_then_committed_then_the_rest_is_read(
    stored: Stored,
) -> None:
    order: list[Any] = []

    def chunks(client: Client) -> Iterator[bytes]:
        put(1)
        on_commit(order.append, "committed")
        order.append("first")
        yield b"a"
        order.append(transaction.get())
        yield str(connection().root()["x"]).encode()

    before = LEASES.value
    body = Client(chunks).request()
    assert order == ["first", "committed"]
    assert LEASES.value == before + 1
    assert slot.unit is None, "between two chunks the greenlet runs no unit of work"
    assert list(body) == [b"a", b"1"]
    body.close()
    assert LEASES.value == before
    assert stored("x") == 1


def test_a_conflict_before_the_first_byte_makes_the_response_anew(stored: Stored) -> None:
    closed: list[int] = []

    def chunks(client: Client) -> Iterator[bytes]:
        number = client.attempts
        try:
            put(number)
            if number == 1:
                raise TransientError
            yield str(number).encode()
        finally:
            closed.append(number)

    body = Client(chunks).request()
    assert list(body) == [b"2"]
    body.close()
    assert closed == [1, 2]
    assert stored("x") == 2


def test_an_error_before_the_first_chunk_is_a_clean_error(stored: Stored) -> None:
    def chunks(client: Client) -> Iterator[bytes]:
        put(1)
        yield b""
        raise KeyError("early")

    client = Client(chunks)
    with pytest.raises(KeyError, match="early"):
        client.request()
    assert client.status is None
    assert stored("x") is None


def test_an_empty_stream_is_a_buffered_response(stored: Stored) -> None:
    closed: list[int] = []

    def chunks(client: Client) -> Iterator[bytes]:
        put(1)
        yield b""
        closed.append(1)

    client = Client(chunks)
    assert client.request() == []
    assert client.status == "200 OK"
    assert closed == [1]
    assert stored("x") == 1


def test_what_the_rest_writes_is_discarded_and_reported(
    stored: Stored, caplog: pytest.LogCaptureFixture
) -> None:
    def chunks(client: Client) -> Iterator[bytes]:
        put(1)
        yield b"a"
        put(2)
        yield b"b"

    before = REFUSED_READS.value
    body = Client(chunks).request()
    assert list(body) == [b"a", b"b"]
    body.close()
    assert stored("x") == 1
    assert REFUSED_READS.value == before + 1
    assert "POST /s wrote after its response began" in caplog.text


def test_effects_of_the_rest_happen_when_it_ends(database: Any) -> None:
    seen: list[int] = []

    def chunks(client: Client) -> Iterator[bytes]:
        yield b"a"
        on_commit(seen.append, 1)
        yield b"b"

    body = Client(chunks).request()
    list(body)
    assert seen == []
    body.close()
    assert seen == [1]


def test_a_client_that_goes_ends_it_by_close(database: Any) -> None:
    closed: list[int] = []

    def chunks(client: Client) -> Iterator[bytes]:
        try:
            yield b"a"
            yield b"b"
        finally:
            connection().root()
            closed.append(1)

    before = LEASES.value
    body = Client(chunks).request()
    assert next(body) == b"a"
    body.close()
    body.close()
    assert closed == [1]
    assert LEASES.value == before


def test_an_error_in_the_rest_ends_it(database: Any) -> None:
    def chunks(client: Client) -> Iterator[bytes]:
        connection()
        yield b"a"
        raise KeyError("late")

    before = LEASES.value
    body = Client(chunks).request()
    assert next(body) == b"a"
    with pytest.raises(KeyError, match="late"):
        next(body)
    body.close()
    assert LEASES.value == before
    run(put, 1)


def test_it_is_bounded_in_time(database: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(Settings(stream_deadline=0.1))
    now = [0.0]
    monkeypatch.setattr("nti.appserver.transactions.streaming.monotonic", lambda: now[0])

    def chunks(client: Client) -> Iterator[bytes]:
        connection()
        yield b"a"
        yield b"b"

    before = LEASES.value
    body = Client(chunks).request()
    assert next(body) == b"a"
    now[0] = 1.0
    with pytest.raises(StreamExpired, match="stream_deadline"):
        next(body)
    assert LEASES.value == before
    body.close()


@pytest.mark.parametrize("kind", [Chunks, list])
def test_what_the_server_does_not_take_is_closed(database: Any, kind: type) -> None:
    """A header that it refuses, say."""
    body: Any = Chunks() if kind is Chunks else Closing([b"all"])
    environ = {"REQUEST_METHOD": "POST", "PATH_INFO": "/", "SCRIPT_NAME": ""}

    def app(environ: Any, start_response: Any) -> Any:
        connection()
        start_response("200 OK", [])
        return body

    def refuse(*args: Any) -> None:
        raise ValueError("a bad header")

    before = LEASES.value
    with pytest.raises(ValueError, match="a bad header") as held:
        TransactionMiddleware(app)(environ, refuse)
    assert body.closed, held
    assert LEASES.value == before


def test_a_second_unit_of_work_that_cannot_begin_leaves_nothing(
    database: Any, stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The storage has gone away since the commit."""
    body = Chunks()

    def made(client: Client) -> Any:
        put(1)
        return body

    def away(unit: Unit) -> None:
        if unit._leases:
            raise ConnectionError("away")

    before = LEASES.value
    with monkeypatch.context() as patch:
        patch.setattr(Unit, "refresh", away)
        with pytest.raises(ConnectionError) as held:
            Client(made).request()
    assert body.closed, held
    assert LEASES.value == before
    assert transaction.manager.manager._txn is None
    assert not transaction.manager.explicit
    assert stored("x") == 1


def test_one_that_is_never_closed_is_reported(
    database: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def chunks(client: Client) -> Iterator[bytes]:
        connection()
        yield b"a"
        yield b"b"

    before = LEASES.value
    body = Client(chunks).request()
    next(body)
    del body
    gc.collect()
    assert "POST /s: its response was not closed" in caplog.text
    assert LEASES.value == before


def test_a_reading_request_may_stream_too(database: Any, stored: Stored) -> None:
    run(put, 7)

    def chunks(client: Client) -> Iterator[bytes]:
        root = connection().root()
        yield str(root["x"]).encode()
        yield str(root["x"]).encode()

    body = Client(chunks).request("GET")
    assert b"".join(body) == b"77"
    body.close()
    assert not transaction.manager.explicit
