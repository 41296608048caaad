"""Opening databases from URIs: which schemes, what waits, what is refused."""

import subprocess
import sys
from pathlib import Path

import pytest
import transaction

from nti.appserver.errors import ConfigurationError
from nti.appserver.settings import Settings
from nti.appserver.storage import open_database

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


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("none", "storage is 'none'"),
        ("mongodb://x", "begins with file://"),
        ("file:///nowhere/at/all/Data.fs", "make the folder"),
        ("zconfig:///nowhere/zodb.conf", "nowhere"),
    ],
)
def test_what_cannot_be_opened_is_named(uri: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        open_database(uri, Settings())


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
