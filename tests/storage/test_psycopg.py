"""psycopg2 in a patched process: whoever uses it, it lets other greenlets run while it waits."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from nti.appserver.testing.patched import run
from nti.appserver.testing.postgresql import PostgreSQL, find_programs

pytestmark = [
    pytest.mark.postgresql,
    pytest.mark.skipif(find_programs() is None, reason="PostgreSQL is not installed"),
]

#: Asks the database for a nap with a connection of each kind; counts what other greenlets did.
PROGRAM = """
import json, sys
import gevent
import psycopg2
from psycopg2.extensions import get_wait_callback, set_wait_callback
from nti.appserver.storage import psycopg

before = get_wait_callback()
exec(sys.argv[2])
psycopg.wait_by_switching()
psycopg.wait_by_switching()

def beats_during(wait):
    beats = 0
    def beat():
        nonlocal beats
        while True:
            beats += 1
            gevent.sleep(0.01)
    heart = gevent.spawn(beat)
    try:
        wait()
    finally:
        heart.kill()
    return beats

def nap(connect):
    opened = connect(sys.argv[1])
    cursor = opened.cursor()
    cursor.execute("select pg_sleep(0.5)")
    cursor.fetchall()
    opened.close()

found = {"hook": get_wait_callback() is not None, "same": get_wait_callback() is before}
found["any"] = beats_during(lambda: nap(psycopg2.connect))
if found["hook"] and "relstorage" in sys.argv[2:]:
    from relstorage.adapters.postgresql.drivers.psycopg2 import GeventPsycopg2Driver
    found["relstorage"] = beats_during(lambda: nap(GeventPsycopg2Driver().connect))
print(json.dumps(found))
"""

WITHOUT_RELSTORAGE = "set_wait_callback(None); psycopg.find_spec = lambda name: None"


@pytest.fixture(scope="module")
def dsn() -> Iterator[str]:
    with PostgreSQL() as server:
        yield server.create_database("naps")


def nap(dsn: str, before: str = "", *more: str, patched: bool = True) -> dict[str, Any]:
    found = json.loads(run(PROGRAM, dsn, before, *more, patched=patched).splitlines()[-1])
    assert isinstance(found, dict)
    return found


def test_relstorages_connections_and_all_others(dsn: str) -> None:
    found = nap(dsn, "", "relstorage")
    assert not found["same"]
    assert found["any"] > 1
    assert found["relstorage"] > 1


def test_where_relstorage_is_not_installed(dsn: str) -> None:
    assert nap(dsn, WITHOUT_RELSTORAGE)["any"] > 1


def test_a_hook_of_the_application_is_left_alone(dsn: str) -> None:
    own = """
from gevent.socket import wait_read, wait_write
def before(connection):
    while (state := connection.poll()) != 0:
        (wait_read if state == 1 else wait_write)(connection.fileno())
set_wait_callback(before)
"""
    found = nap(dsn, own)
    assert found["same"]
    assert found["any"] > 1


def test_a_hook_that_was_taken_away_stays_away(dsn: str) -> None:
    found = nap(dsn, "set_wait_callback(None)")
    assert not found["hook"]
    assert found["any"] <= 1, "without a hook psycopg2 blocks: the other tests show something"


def test_an_unpatched_process_has_no_hook(dsn: str) -> None:
    assert not nap(dsn, WITHOUT_RELSTORAGE, patched=False)["hook"]
