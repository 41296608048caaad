"""WSGI requests as units of work; each semantic with a test named after it."""

import io
import logging
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
import sqlalchemy
import transaction
import ZODB
import zope.sqlalchemy
from persistent.mapping import PersistentMapping
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, scoped_session, sessionmaker
from transaction.interfaces import TransientError
from webtest import TestApp
from webtest.lint import middleware as lint
from ZEO.Exceptions import ClientDisconnected

from nti.appserver.errors import ClientError, ServiceUnavailable
from nti.appserver.settings import Settings
from nti.appserver.transactions import (
    TransactionMiddleware,
    allow_writes,
    configure,
    connection,
    on_commit,
    use_database,
)
from nti.appserver.transactions.instruments import REFUSED_READS, UNAVAILABLE
from nti.appserver.transactions.paste import filter_app
from nti.appserver.transactions.reading import WriteInRead

from .conftest import join

Stored = Callable[[str], Any]
Body = Callable[[dict[str, Any]], Any]


def serve(body: Body, status: str = "200 OK", headers: Iterable[tuple[str, str]] = ()) -> TestApp:
    """A test client of an application that answers what `body(environ)` returns."""

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        result = body(environ)
        start_response(status, [("Content-Type", "text/plain"), *headers])
        return [result] if isinstance(result, bytes) else result

    return TestApp(lint(TransactionMiddleware(lint(app))))


def put(environ: dict[str, Any], value: Any = 1) -> bytes:
    connection().root()["x"] = value
    return b"done"


def test_a_request_is_a_unit_of_work(stored: Stored) -> None:
    assert serve(put).post("/").body == b"done"
    assert stored("x") == 1


def test_the_commit_happens_before_the_first_byte_of_a_buffered_response(stored: Stored) -> None:
    order: list[Any] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        put(environ)
        on_commit(order.append, "committed")
        start_response("200 OK", [])
        return [b"done"]

    def start_response(status: str, headers: Any) -> Any:
        order.append(status)
        return order.append

    environ = {"REQUEST_METHOD": "POST", "PATH_INFO": "/", "SCRIPT_NAME": ""}
    assert TransactionMiddleware(app)(environ, start_response) == [b"done"]
    assert order == ["committed", "200 OK"]


def test_a_commit_error_is_a_clean_5xx_never_half_a_response(database: Any) -> None:
    sent: list[Any] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [])(b"written")
        join("tpc_vote", ValueError("in vote"))
        return [b"done"]

    environ = {"REQUEST_METHOD": "POST", "PATH_INFO": "/", "SCRIPT_NAME": ""}
    with pytest.raises(ValueError, match="in vote"):
        TransactionMiddleware(app)(environ, lambda *args: sent.append(args))
    assert sent == []


def test_conflicts_that_outlast_the_attempts_are_503_with_retry_after(database: Any) -> None:
    before = UNAVAILABLE.value

    def conflict(environ: dict[str, Any]) -> bytes:
        join("commit")
        return b"never"

    answer = serve(conflict).post("/", status=503)
    assert int(answer.headers["Retry-After"]) >= 1
    assert b"never" not in answer.body
    assert UNAVAILABLE.value == before + 1


@pytest.mark.parametrize(
    ("problem", "status"),
    [(ServiceUnavailable("full", retry_after=7), 503), (ClientError(404, "Not Found", "no"), 404)],
)
def test_a_failure_that_carries_its_answer_is_answered_so(
    stored: Stored, problem: Exception, status: int
) -> None:
    def fail(environ: dict[str, Any]) -> bytes:
        put(environ)
        raise problem

    answer = serve(fail).post("/", status=status)
    assert answer.headers.get("Retry-After") == ("7" if status == 503 else None)
    assert stored("x") is None


def test_other_errors_abort_and_are_the_servers_to_answer(stored: Stored) -> None:
    def fail(environ: dict[str, Any]) -> bytes:
        put(environ)
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        serve(fail).post("/")
    assert stored("x") is None


@pytest.mark.parametrize(
    ("status", "headers", "commits"),
    [
        ("200 OK", [], True),
        ("302 Found", [], True),
        ("404 Not Found", [], False),
        ("500 Oops", [], False),
        ("200 OK", [("X-Tm", "abort")], False),
        ("200 OK", [("x-tm", "whatever")], False),
        ("409 Conflict", [("X-Tm", "commit")], True),
    ],
)
def test_veto_by_status_or_header(
    stored: Stored, status: str, headers: list[tuple[str, str]], commits: bool
) -> None:
    serve(put, status, headers).post("/", status="*")
    assert (stored("x") == 1) is commits


def test_a_veto_of_ones_own(stored: Stored) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        put(environ)
        start_response("404 Not Found", [])
        return []

    TestApp(TransactionMiddleware(app, veto=lambda status, headers: False)).post("/", status=404)
    assert stored("x") == 1


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_write_in_a_reading_request_is_reported_and_discarded(
    stored: Stored, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    before = REFUSED_READS.value
    body: Body = put if method == "GET" else lambda environ: put(environ)[:0]
    serve(body).request("/path", method=method, status=200)
    assert stored("x") is None
    assert REFUSED_READS.value == before + 1
    assert f"{method} /path should only read, and wrote PersistentMapping 0x00;" in caplog.text


def test_a_report_of_many_writes_names_the_first_few(
    stored: Stored, caplog: pytest.LogCaptureFixture
) -> None:
    def body(environ: dict[str, Any]) -> bytes:
        leased = connection()
        for _ in range(8):
            leased.add(PersistentMapping())
        return b""

    serve(body).get("/")
    one = r"PersistentMapping 0x\w+"
    assert re.search(f"and wrote ({one}, ){{4}}{one} and 3 more;", caplog.text)


def test_a_write_in_a_reading_request_is_refused_under_the_strict_setting(stored: Stored) -> None:
    app = serve(put)
    configure(Settings(strict_reads=True))
    with pytest.raises(Exception, match="should only read"):
        app.get("/")
    assert stored("x") is None


def test_a_zeo_server_that_is_away_is_named_in_the_answer(
    database: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def body(environ: dict[str, Any]) -> bytes:
        raise ClientDisconnected("timed out waiting for connection")

    answer = serve(body).post("/path", status=503)
    assert answer.text == "The storage is away.\n"
    assert answer.headers["Retry-After"]
    assert "POST /path: The storage is away. (timed out waiting" in caplog.text
    assert "conflict" not in caplog.text


def test_a_reading_request_may_say_that_it_writes(stored: Stored) -> None:
    def body(environ: dict[str, Any]) -> bytes:
        allow_writes()
        return put(environ)

    serve(body).get("/")
    assert stored("x") == 1


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_hooks_of_a_request_are_called_whether_it_reads_or_not(database: Any, method: str) -> None:
    seen: list[Any] = []

    def body(environ: dict[str, Any]) -> bytes:
        transaction.get().addBeforeCommitHook(seen.append, ("before",))
        transaction.get().addAfterCommitHook(seen.append)
        return b"done"

    serve(body).request("/", method=method)
    assert seen == ["before", True]


def test_what_a_hook_of_a_reading_request_writes_is_reported_and_discarded(
    stored: Stored, caplog: pytest.LogCaptureFixture
) -> None:
    def body(environ: dict[str, Any]) -> bytes:
        transaction.get().addBeforeCommitHook(put, (environ,))
        return b"done"

    assert serve(body).get("/").body == b"done"
    assert "GET / should only read" in caplog.text
    assert stored("x") is None
    configure(Settings(strict_reads=True))
    with pytest.raises(WriteInRead):
        serve(body).get("/")
    assert stored("x") is None


def test_a_reading_request_that_aborts_calls_no_hook_before_a_commit(database: Any) -> None:
    seen: list[str] = []

    def body(environ: dict[str, Any]) -> bytes:
        transaction.get().addBeforeCommitHook(seen.append, ("before",))
        return b"done"

    serve(body, status="404 Not Found").get("/", status=404)
    assert seen == []


class Base(DeclarativeBase):
    """What tables derive from."""


class Row(Base):
    """A row."""

    __tablename__ = "rows"
    value: Mapped[int] = mapped_column(primary_key=True)


@pytest.fixture
def rows() -> Iterator[Any]:
    """A database of SQL, whose sessions join transactions."""
    engine = sqlalchemy.create_engine("sqlite://", poolclass=sqlalchemy.StaticPool)
    Base.metadata.create_all(engine)
    sessions = scoped_session(sessionmaker(bind=engine))
    zope.sqlalchemy.register(sessions)
    yield sessions
    sessions.remove()
    engine.dispose()


def test_reading_rows_is_no_write(rows: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Though the session joins the transaction for that."""
    configure(Settings(strict_reads=True))
    seen: list[str] = []

    def body(environ: dict[str, Any]) -> bytes:
        on_commit(seen.append, environ["PATH_INFO"])
        return str(rows.query(Row).count()).encode()

    def chunks(environ: dict[str, Any]) -> Iterator[bytes]:
        for _ in range(2):
            yield str(rows.query(Row).count()).encode()

    assert serve(lambda environ: str(rows.query(Row).count()).encode()).get("/").body == b"0"
    assert serve(body).get("/effect").body == b"0"
    assert seen == ["/effect"]
    assert serve(chunks).get("/").body == b"00"
    assert caplog.text == ""


@pytest.mark.parametrize("flush", [True, False])
def test_a_row_that_a_reading_request_adds_is_a_write(rows: Any, flush: bool) -> None:
    def body(environ: dict[str, Any]) -> bytes:
        rows.add(Row(value=1))
        if flush:
            rows.flush()
        return b"done"

    configure(Settings(strict_reads=True))
    with pytest.raises(WriteInRead):
        serve(body).get("/")
    assert serve(lambda environ: str(rows.query(Row).count()).encode()).get("/").body == b"0"
    serve(body).post("/")
    assert serve(lambda environ: str(rows.query(Row).count()).encode()).get("/").body == b"1"


def test_a_reading_request_may_have_effects(
    database: Any, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[int] = []

    def body(environ: dict[str, Any]) -> bytes:
        on_commit(seen.append, 1)
        return b""

    with caplog.at_level(logging.WARNING):
        serve(body).get("/")
    assert seen == [1]
    assert caplog.text == ""


def conflicting(times: int, body: Body) -> Body:
    """Conflict so often, after the body has been read."""
    calls: list[int] = []

    def conflict(environ: dict[str, Any]) -> Any:
        result = body(environ)
        calls.append(1)
        if len(calls) <= times:
            raise TransientError
        return result

    return conflict


@pytest.mark.parametrize("size", [0, 1, 1000, 300_000])
def test_bodies_are_replayed_on_retry(database: Any, size: int) -> None:
    """The larger ones are spooled to disk."""
    sent = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    seen: list[bytes] = []

    def body(environ: dict[str, Any]) -> bytes:
        seen.append(environ["wsgi.input"].read(len(sent)))
        return b""

    serve(conflicting(2, body)).post("/", sent)
    assert seen == [sent] * 3


def test_what_cannot_be_replayed_is_not_retried(
    database: Any, caplog: pytest.LogCaptureFixture
) -> None:
    configure(Settings(body_replay=10))
    seen: list[bytes] = []

    def body(environ: dict[str, Any]) -> bytes:
        seen.append(environ["wsgi.input"].read(20))
        raise TransientError

    serve(body).post("/", b"x" * 20, status=503)
    assert len(seen) == 1
    assert "body_replay" in caplog.text


def test_the_environ_of_another_attempt_is_as_new(database: Any) -> None:
    seen: list[tuple[str, Any]] = []

    def body(environ: dict[str, Any]) -> bytes:
        seen.append((environ["PATH_INFO"], environ.get("added")))
        environ["SCRIPT_NAME"], environ["PATH_INFO"] = environ["PATH_INFO"], ""
        environ["added"] = len(seen)
        return b""

    serve(conflicting(1, body)).post("/a/b")
    assert seen == [("/a/b", None)] * 2


def test_the_attempt_is_told(database: Any) -> None:
    seen: list[Any] = []

    def body(environ: dict[str, Any]) -> bytes:
        seen.append((environ["retry.attempt"], environ["retry.attempts"]))
        return b""

    serve(conflicting(2, body)).post("/")
    assert seen == [(0, 3), (1, 3), (2, 3)]


def test_the_requests_deadline_ends_its_retries(
    database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(Settings(request_deadline=0.1, attempts=100))
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    calls: list[int] = []

    def body(environ: dict[str, Any]) -> bytes:
        calls.append(1)
        now[0] += 0.06
        raise TransientError

    serve(body).post("/", status=503)
    assert len(calls) == 2


def test_doomed_transactions_abort_and_the_response_is_sent(stored: Stored) -> None:
    def body(environ: dict[str, Any]) -> bytes:
        transaction.doom()
        return put(environ)

    assert serve(body).post("/").body == b"done"
    assert stored("x") is None


def test_tm_active_means_that_a_transaction_is_under_way(database: Any) -> None:
    seen: list[Any] = []

    def body(environ: dict[str, Any]) -> bytes:
        assert environ["tm.active"] is True
        assert environ["tm.manager"].get() is transaction.get()
        transaction.get().addBeforeCommitHook(lambda: seen.append("tm.active" in environ))
        on_commit(lambda: seen.append("tm.active" in environ))
        return b""

    serve(body).post("/")
    assert seen == [False, False]


@pytest.mark.parametrize("key", ["wsgi.websocket", "tm.active", "repoze.tm.active"])
def test_it_steps_aside(database: Any, key: str) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        assert transaction.manager.manager._txn is None
        assert "retry.attempt" not in environ
        start_response("200 OK", [])
        return [b"aside"]

    client = TestApp(TransactionMiddleware(app), lint=False)
    assert client.get("/", extra_environ={key: "1"}).body == b"aside"


def test_the_user_and_the_request_are_named_in_undo_logs(tmp_path: Any) -> None:
    database = ZODB.DB(str(tmp_path / "data.fs"))
    use_database(database)
    serve(put).post("/caf%C3%A9/x?y=1", extra_environ={"REMOTE_USER": "ann"})
    entry = database.undoInfo()[0]
    assert entry["description"] == "POST /café/x"
    assert entry["user_name"].strip().endswith("ann")
    database.close()


def test_the_write_callable_is_sent_first(stored: Stored) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        write = start_response("200 OK", [("Content-Type", "text/plain")])
        write(b"a")
        write(b"b")
        return [b"c"]

    assert TestApp(TransactionMiddleware(app)).get("/").body == b"abc"


def test_start_response_may_be_called_again_for_an_error(database: Any) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        try:
            raise KeyError
        except KeyError as error:
            info = (KeyError, error, error.__traceback__)
            start_response("500 Oops", [("Content-Type", "text/plain")], info)
        return [b"oops"]

    assert TestApp(TransactionMiddleware(app)).get("/", status=500).body == b"oops"


def test_what_the_application_returned_is_closed_once(database: Any) -> None:
    class Chunks(list[bytes]):
        closed = 0

        def close(self) -> None:
            self.closed += 1

    made: list[Chunks] = []

    def app(environ: dict[str, Any], start_response: Any) -> Chunks:
        start_response("200 OK", [])
        made.append(Chunks([b"x"]))
        if len(made) < 3:
            join("tpc_vote")
        return made[-1]

    environ = {"REQUEST_METHOD": "POST", "PATH_INFO": "/", "SCRIPT_NAME": ""}
    result: Any = TransactionMiddleware(app)(environ, lambda *args: None)
    assert result is made[2]
    assert [chunks.closed for chunks in made] == [1, 1, 0]


def test_a_file_wrapper_is_handed_on_untouched(database: Any) -> None:
    class FileWrapper:
        def __init__(self, file: Any) -> None:
            self.file = file

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [])
        return environ["wsgi.file_wrapper"](io.BytesIO(b"x"))

    environ = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": "/",
        "SCRIPT_NAME": "",
        "wsgi.file_wrapper": FileWrapper,
    }
    assert isinstance(TransactionMiddleware(app)(environ, lambda *args: None), FileWrapper)


def test_a_transaction_left_in_the_greenlet_is_in_nobodys_way(
    stored: Stored, caplog: pytest.LogCaptureFixture
) -> None:
    transaction.begin()
    left = join()
    serve(put).post("/")
    assert left.asked == ["abort"]
    assert stored("x") == 1
    assert "left behind" in caplog.text


def test_the_filter_takes_settings_from_the_file(stored: Stored) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [str(environ["retry.attempts"]).encode()]

    filtered = filter_app(app, {"appserver.strict_reads": "true"}, attempts="7")
    assert TestApp(filtered).get("/").body == b"7"
