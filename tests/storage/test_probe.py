"""The check at opening: is the storage cooperative, and if not, what to change."""

import json
from pathlib import Path

import pytest

from nti.appserver.testing.patched import run
from nti.appserver.testing.postgresql import PostgreSQL
from nti.appserver.testing.zeo import ZEOServer
from tests.storage.sites import Site

PROGRAM = """
import json, logging, sys
from nti.appserver.settings import Settings

class Lines(logging.Handler):
    def emit(self, record):
        lines.append([record.levelname, record.getMessage()])

lines = []
logger = logging.getLogger("nti.appserver.storage.probe")
logger.setLevel(logging.INFO)
logger.addHandler(Lines())
exec(sys.argv[3])
from nti.appserver.storage import open_database
open_database(sys.argv[1], Settings(var=sys.argv[2])).close()
print(json.dumps(lines))
"""


def logged(uri: str, folder: Path, before: str = "", patched: bool = True) -> list[list[str]]:
    """What is logged of a storage that a process opens."""
    printed = run(PROGRAM, uri, str(folder / "var"), before, patched=patched)
    found = json.loads(printed.splitlines()[-1])
    assert isinstance(found, list)
    return found


def test_plain_sqlite_blocks_the_hub_and_the_warning_names_the_driver(tmp_path: Path) -> None:
    ((level, line),) = logged(f"sqlite://{tmp_path}/objects?driver=sqlite3", tmp_path)
    assert level == "WARNING"
    assert "'sqlite3' blocks the hub" in line
    assert "driver=gevent sqlite3" in line


def test_sqlite_is_cooperative_when_no_driver_is_named(tmp_path: Path) -> None:
    ((level, line),) = logged(f"sqlite://{tmp_path}/objects", tmp_path)
    assert (level, "'gevent sqlite3' is cooperative" in line) == ("INFO", True), line


def test_sqlite_of_a_zconfig_file_is_checked_too(tmp_path: Path) -> None:
    config = tmp_path / "zodb.conf"
    config.write_text(
        "%import relstorage\n<zodb main>\n<mappingstorage>\n</mappingstorage>\n</zodb>\n"
        f"<zodb notes>\n<relstorage>\n<sqlite3>\ndata-dir {tmp_path}/objects\n"
        "driver sqlite3\n</sqlite3>\n</relstorage>\n</zodb>\n"
    )
    ((level, line),) = logged(f"zconfig://{config}", tmp_path)
    assert (level, "storage notes: " in line, "blocks the hub" in line) == ("WARNING", True, True)


@pytest.mark.postgresql
def test_postgresql(tmp_path: Path) -> None:
    """gevent's driver waits in the hub; the plain one only works where nobody has set it up."""
    plain = "import psycopg2.extensions\npsycopg2.extensions.set_wait_callback(None)"
    with PostgreSQL() as server:
        ((level, line),) = logged(server.zodburi(), tmp_path)
        assert (level, "'gevent psycopg2' is cooperative" in line) == ("INFO", True), line
        ((level, line),) = logged(f"{server.zodburi()}&driver=psycopg2", tmp_path, plain)
        assert (level, "'psycopg2' blocks the hub" in line) == ("WARNING", True), line
        assert "driver=gevent psycopg2" in line


def test_zeo(zeo: ZEOServer, tmp_path: Path) -> None:
    ((level, line),) = logged(zeo.uri, tmp_path)
    assert (level, "is cooperative" in line) == ("INFO", True), line


def test_both_halves_of_a_demo_storage(zeo: ZEOServer, tmp_path: Path) -> None:
    ((level, line),) = logged(f"demo:({zeo.uri})/(memory://)", tmp_path)
    assert (level, "ClientStorage" in line) == ("INFO", True), line


def test_what_waits_for_nobody_is_not_spoken_of(tmp_path: Path) -> None:
    assert logged(f"file://{tmp_path}/Data.fs", tmp_path) == []
    assert logged(f"sqlite://{tmp_path}/objects", tmp_path, patched=False) == []


def test_a_worker_logs_it_at_its_start(tmp_path: Path) -> None:
    storage = f"sqlite://{tmp_path}/objects?driver=sqlite3"
    with Site(tmp_path, storage=storage) as site:
        site.wait_until_serving()
        assert site.post() == 1
        assert site.output().count("blocks the hub") == 1
        assert "driver=gevent sqlite3" in site.output()
