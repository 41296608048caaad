"""Several databases commit together, or none does."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy
import transaction
import ZODB
import zope.sqlalchemy
from relstorage.adapters.postgresql import PostgreSQLAdapter
from relstorage.options import Options
from relstorage.storage import RelStorage
from sqlalchemy.orm import Session, sessionmaker

from nti.appserver.testing.postgresql import PostgreSQL, find_programs
from nti.appserver.testing.process import GunicornProcess, wait_until
from nti.appserver.transactions import connection, on_commit, run, use_database

from .conftest import join

pytestmark = [
    pytest.mark.postgresql,
    pytest.mark.skipif(find_programs() is None, reason="PostgreSQL is not installed"),
]


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQL]:
    with PostgreSQL() as server:
        yield server


@pytest.fixture
def relstorage(server: PostgreSQL) -> Any:
    dsn = server.create_database("objects")
    options = Options(name="objects", keep_history=False, cache_local_mb=1)
    return RelStorage(PostgreSQLAdapter(dsn=dsn, options=options), options=options)


def test_relstorage_and_filestorage_beside_each_other(relstorage: Any, tmp_path: Any) -> None:
    databases: dict[str, Any] = {}
    main = ZODB.DB(relstorage, databases=databases, database_name="main")
    beside = ZODB.DB(str(tmp_path / "b.fs"), databases=databases, database_name="beside")
    use_database(main)
    effects: list[int] = []

    def both(value: int, phase: str = "") -> None:
        connection().root()["x"] = value
        connection("beside").root()["x"] = value
        on_commit(effects.append, value)
        join(phase, ValueError("told to"), key="~~zz")

    def seen() -> tuple[int, int]:
        return connection().root()["x"], connection("beside").root()["x"]

    try:
        run(both, 1)
        for phase in ("tpc_begin", "commit", "tpc_vote"):
            with pytest.raises(ValueError, match="told to"):
                run(both, 2, phase)
            assert run(seen) == (1, 1)
        run(both, 3)
        assert run(seen) == (3, 3)
        assert effects == [1, 3]
    finally:
        beside.close()
        main.close()


@pytest.fixture
def session(server: PostgreSQL) -> Iterator[Any]:
    """Makes sessions that join the transaction under way, each in two phases."""
    name = "rows"
    server.create_database(name)
    engine = sqlalchemy.create_engine(server.url(name))
    with engine.begin() as connected:
        connected.execute(sqlalchemy.text("create table rows (value integer)"))
    make = sessionmaker(bind=engine, twophase=True)

    def joined() -> Session:
        made = make()
        zope.sqlalchemy.register(made)
        return made

    yield joined
    engine.dispose()


def test_rows_of_postgresql_and_objects(session: Any, tmp_path: Any) -> None:
    database = ZODB.DB(str(tmp_path / "data.fs"))
    use_database(database)
    insert = sqlalchemy.text("insert into rows values (:value)")

    def both(value: int, phase: str = "") -> None:
        connection().root()["x"] = value
        joined = session()
        joined.execute(insert, {"value": value})
        zope.sqlalchemy.mark_changed(joined)
        join(phase, ValueError("told to"), key="~~zz")

    def seen() -> tuple[int, list[int]]:
        rows = session().execute(sqlalchemy.text("select value from rows order by 1"))
        return connection().root()["x"], [value for (value,) in rows]

    run(both, 1)
    for phase in ("tpc_begin", "commit", "tpc_vote"):
        with pytest.raises(ValueError, match="told to"):
            run(both, 2, phase)
        assert run(seen) == (1, [1])
    run(both, 3)
    assert run(seen) == (3, [1, 3])
    database.close()
    assert transaction.manager.manager._txn is None


@pytest.fixture
def site(server: PostgreSQL, tmp_path: Path) -> Iterator[GunicornProcess]:
    """Our worker, serving tests/transactions/sql_app.py."""
    name = f"served_{uuid4().hex}"
    server.create_database(name)
    url = server.url(name)
    engine = sqlalchemy.create_engine(url)
    with engine.begin() as connected:
        connected.execute(sqlalchemy.text("create table rows (value integer primary key)"))
        connected.execute(sqlalchemy.text("create table counter (value integer)"))
        connected.execute(sqlalchemy.text("insert into counter values (0)"))
    engine.dispose()
    environ = {
        "NTI_APPSERVER_APPLICATION": "tests.transactions.sql_app:main",
        "NTI_APPSERVER_STORAGE": f"file://{tmp_path}/data.fs",
        "NTI_APPSERVER_ATTEMPTS": "20",
        "ROWS": url,
    }
    app, root = "nti.appserver.gunicorn:app", str(Path(__file__).parents[2])
    with GunicornProcess(app, "--pythonpath", root, cwd=tmp_path, environ=environ) as site:
        yield site.wait_until_serving()


def post(url: str) -> int:
    """The status of the answer."""
    try:
        with urllib.request.urlopen(url, b"", timeout=60) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as problem:
        problem.close()
        return problem.code


def test_rows_of_postgresql_and_objects_in_a_patched_process(site: GunicornProcess) -> None:
    """Under our worker, many requests at a time; some fail while they commit."""
    phases = ["", "?fails=tpc_begin", "?fails=commit", "?fails=tpc_vote"]
    paths = [f"{site.url}/add/{number}{phases[number % 4]}" for number in range(40)]
    with ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(post, paths))
        good = [number for number, status in enumerate(answers) if status == 200]
        assert good == list(range(0, 40, 4))
        assert set(answers) == {200, 500}
        assert set(clients.map(post, [f"{site.url}/count"] * 40)) == {200}
    with urllib.request.urlopen(f"{site.url}/seen", timeout=60) as answer:
        found = json.load(answer)
    assert found == {"rows": good, "objects": good, "counters": [40, 40], "prepared": 0}


def test_a_query_that_waits_stops_no_other_request(site: GunicornProcess) -> None:
    """The one worker answers others while psycopg2 waits, which our worker sees to."""
    engine = sqlalchemy.create_engine(site.environ["ROWS"])
    lock = sqlalchemy.text("select pg_advisory_xact_lock(1)")
    waiting = sqlalchemy.text(
        "select count(*) from pg_locks where locktype = 'advisory' and not granted"
    )
    with ThreadPoolExecutor(1) as clients:
        with engine.begin() as holder:
            holder.execute(lock)
            answer = clients.submit(post, f"{site.url}/lock")
            wait_until(lambda: holder.execute(waiting).scalar() == 1, "a request waits for it")
            with urllib.request.urlopen(f"{site.url}/seen", timeout=60) as other:
                assert json.load(other)["counters"] == [0, 0]
            assert not answer.done()
        assert answer.result(timeout=60) == 200
    engine.dispose()
