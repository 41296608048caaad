"""Opening databases from URIs: which schemes, what waits, what is refused."""

import subprocess
import sys
from pathlib import Path

import pytest
import transaction

from nti.appserver.errors import ConfigurationError
from nti.appserver.settings import Settings
from nti.appserver.storage import open_database
from nti.appserver.storage.relational import dsn

HOLDER = (
    "import sys, ZODB.FileStorage\n"
    "storage = ZODB.FileStorage.FileStorage(sys.argv[1])\n"
    "print('held', flush=True)\n"
    "sys.stdin.read()\n"
)


def reopened(uri: str, settings: Settings) -> str:
    """What a second opening finds of the object that a first one stored."""
    database = open_database(uri, settings)
    with database.transaction() as connection:
        connection.root()["kept"] = "yes"
    database.close()
    database = open_database(uri, settings)
    with database.transaction() as connection:
        found = connection.root()["kept"]
    database.close()
    return str(found)


def test_a_file_keeps_what_was_stored(tmp_path: Path) -> None:
    assert reopened(f"file://{tmp_path}/Data.fs", Settings()) == "yes"


def test_memory_and_demo(tmp_path: Path) -> None:
    for uri in ("memory://", "demo:(memory://)/(memory://)"):
        database = open_database(uri, Settings())
        with database.transaction() as connection:
            connection.root()["kept"] = "yes"
        database.close()


def test_all_databases_of_a_zconfig_file_are_open_together(tmp_path: Path) -> None:
    config = tmp_path / "zodb.conf"
    config.write_text(
        "<zodb main>\n<mappingstorage>\n</mappingstorage>\n</zodb>\n"
        "<zodb users>\n<mappingstorage>\n</mappingstorage>\n</zodb>\n"
    )
    database = open_database(f"zconfig://{config}", Settings())
    assert database.database_name == "main"
    connection = database.open()
    assert connection.get_connection("users").db().database_name == "users"
    connection.close()
    database.close()
    named = open_database(f"zconfig://{config}#users", Settings())
    assert named.database_name == "users"
    named.close()
    with pytest.raises(ConfigurationError, match="'main', 'users'"):
        open_database(f"zconfig://{config}#guests", Settings())


def test_a_storage_whose_database_cannot_be_opened_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "zodb.conf"
    config.write_text(f"<filestorage>\npath {tmp_path}/Data.fs\n</filestorage>\n")

    def failing(storage: object) -> None:
        raise RuntimeError("no database")

    monkeypatch.setattr("nti.appserver.storage.wrap.DB", failing)
    with pytest.raises(RuntimeError, match="no database"):
        open_database(f"zconfig://{config}", Settings())
    monkeypatch.undo()
    open_database(f"zconfig://{config}", Settings()).close()


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("none", "storage is 'none'"),
        ("mongodb://x", "begins with file://"),
        ("sqlit://x", "did you mean sqlite"),
        ("file:x", "expected file://"),
        ("file:///nowhere/at/all/Data.fs", "make the folder"),
        ("file:///", "a folder; expected a file in it"),
        ("memory://?cache=1", "unknown option cache"),
        ("demo:(memory://)", "invalid uri"),
        ("zeo://host:port", "Port could not be cast"),
        ("zeo://127.0.0.1:1?wait_timeout=1", "its server is not there"),
        ("zconfig:///nowhere/zodb.conf", "nowhere"),
        ("postgresql://", "a postgresql:// URI without a database"),
        ("postgresql://user@/objects?host=/nowhere", "its server is not there"),
        ("postgresql://user@/objects?driver=odbc", "'odbc' is not available"),
        ("postgresql://user@/objects?keep_histry=1", "unknown option keep_histry"),
        ("sqlite://", "a sqlite:// URI without a folder"),
        ("sqlite:///dev/null", "cannot be opened"),
    ],
)
def test_what_cannot_be_opened_is_named(uri: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=said):
        open_database(uri, Settings(var=str(tmp_path)), wait=0)


def test_passwords_are_not_shown(tmp_path: Path) -> None:
    for uri in (
        "postgresql://user:hunter2@127.0.0.1:1/objects",
        "postgresql://127.0.0.1:1/objects?user=x&password=hunter2",
        "zeo://127.0.0.1:1?wait_timeout=1&username=x&password=hunter2",
    ):
        with pytest.raises(ConfigurationError, match=r"\*\*\*") as caught:
            open_database(uri, Settings(var=str(tmp_path)), wait=0)
        assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"host": "/run/db", "dbname": "objects"}, "host='/run/db' dbname='objects'"),
        ({"password": "it's a \\"}, "password='it\\'s a \\\\'"),
    ],
)
def test_what_libpq_is_given(parameters: dict[str, str], expected: str) -> None:
    assert dsn(parameters) == expected


def test_a_file_of_another_process_is_waited_for(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            HOLDER,
            str(tmp_path / "Data.fs"),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(ConfigurationError, match="belongs to another process"):
            open_database(f"file://{tmp_path}/Data.fs", Settings(), wait=0.2)
        holder.stdin.close()
        open_database(f"file://{tmp_path}/Data.fs", Settings(), wait=30).close()


def test_the_default_lives_under_var(tmp_path: Path) -> None:
    assert reopened("embedded", Settings(var=str(tmp_path / "var"))) == "yes"
    assert (tmp_path / "var" / "Data.fs").exists()
    assert (tmp_path / "var").stat().st_mode & 0o777 == 0o700
    transaction.abort()
