"""A site on PostgreSQL whose server goes away: 503 within the bound, and on by itself."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nti.appserver.testing.postgresql import PostgreSQL
from nti.appserver.testing.process import wait_until
from tests.storage.sites import Site

pytestmark = pytest.mark.postgresql


@pytest.fixture
def postgresql() -> Iterator[PostgreSQL]:
    with PostgreSQL() as server:
        yield server


def test_a_server_that_is_killed_and_started_again(postgresql: PostgreSQL, tmp_path: Path) -> None:
    with Site(tmp_path, "-w", "2", storage=postgresql.zodburi()) as site:
        site.wait_until_serving()
        assert [site.post() for _ in range(6)] == list(range(1, 7))
        postgresql.kill()
        assert [site.post() for _ in range(3)] == [0, 0, 0]
        assert site.ask("GET", "/alive")[0] == 200
        postgresql.start()
        wait_until(site.post, "the site counts again")
        # The count of every POST that was acknowledged, and of no other.
        assert site.post() == 8


def test_a_server_that_stops_answering(postgresql: PostgreSQL, tmp_path: Path) -> None:
    with Site(tmp_path, storage=postgresql.zodburi()) as site:
        site.wait_until_serving()
        assert site.post() == 1
        stopped = postgresql.processes()
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        try:
            began = time.monotonic()
            assert site.post() == 0
            # Twice the setting storage_timeout, and a busy machine.
            assert time.monotonic() - began < 15
            assert site.ask("GET", "/alive")[0] == 200
        finally:
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)
        wait_until(site.post, "the site counts again")


def test_a_server_that_comes_later_is_waited_for(tmp_path: Path) -> None:
    server = PostgreSQL()
    try:
        with Site(tmp_path, storage=server.zodburi()) as site:
            site.wait_for_output("waiting up to 30 s")
            server.start()
            site.wait_until_serving()
            wait_until(lambda: site.post() == 1, "the site counts")
    finally:
        server.stop()
