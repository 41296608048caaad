"""Several databases commit together, or none does."""

from collections.abc import Iterator
from typing import Any

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
