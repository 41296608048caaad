"""Storages and forks: what was made before is refused in the child; workers make their own."""

import json
from pathlib import Path

import pytest

from nti.appserver.testing.patched import run
from nti.appserver.testing.postgresql import PostgreSQL
from tests.storage.sites import Site, servers, until_gone

PROGRAM = r"""
import json, os, sys
import gevent, transaction
from persistent.mapping import PersistentMapping
from nti.appserver.errors import ConfigurationError
from nti.appserver.settings import Settings
from nti.appserver.storage import open_database

database = open_database(sys.argv[1], Settings(var=sys.argv[2]))
with database.transaction() as connection:
    connection.root()["thing"] = PersistentMapping(n=1)
used = database.open()
thing = used.root()["thing"]
thing._p_deactivate()

def commit():
    used.root()["other"] = 1
    transaction.commit()

USES = {
    "open": database.open,
    "load": lambda: database.storage.loadBefore(b"\0" * 8, b"\x7f" + b"\xff" * 7),
    "connection": lambda: thing["n"],
    "commit": commit,
}

def outcome(use):
    try:
        with gevent.Timeout(20):
            return f"returned {use()!r}"
    except BaseException as problem:
        return f"{type(problem).__name__}: {problem}"

child = os.fork()
if not child:
    outcomes = {name: outcome(use) for name, use in USES.items()}
    database.close()
    os.write(1, json.dumps(outcomes).encode() + b"\n")
    os._exit(0)
os.waitpid(child, 0)
assert thing["n"] == 1
used.close()
with database.transaction() as connection:
    assert "other" not in connection.root()
database.close()
"""


def refused(uri: str, folder: Path) -> None:
    outcomes = json.loads(run(PROGRAM, uri, str(folder / "var")).splitlines()[0])
    assert set(outcomes) == {"open", "load", "connection", "commit"}
    for use, outcome in outcomes.items():
        assert outcome.startswith("ConfigurationError"), (use, outcome)
        assert "before it forked" in outcome, (use, outcome)
        assert "open it after the fork" in outcome, (use, outcome)


@pytest.mark.parametrize("kind", ["memory://", "file://{}/Data.fs", "embedded", "sqlite://{}/sql"])
def test_a_storage_made_before_a_fork_says_so_at_each_first_use(kind: str, tmp_path: Path) -> None:
    refused(kind.format(tmp_path), tmp_path)


@pytest.mark.postgresql
def test_so_does_one_on_postgresql(tmp_path: Path) -> None:
    with PostgreSQL() as server:
        refused(server.zodburi(), tmp_path)


def test_with_preloading_each_worker_opens_its_own(tmp_path: Path) -> None:
    with Site(tmp_path, "-w", "2", "--preload") as site:
        site.wait_until_serving()
        assert [site.post() for _ in range(6)] == list(range(1, 7))
        assert len(servers(tmp_path)) == 1
    until_gone(tmp_path)
