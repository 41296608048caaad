"""A site on PostgreSQL whose server goes away: 503 within the bound, and on by itself."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nti.appserver.testing.postgresql import PostgreSQL
from nti.appserver.testing.process import STARTING_SECONDS, wait_until
from tests.storage.sites import HASTY, Site
from tests.storage.writers import APPLICATION, Writers

pytestmark = pytest.mark.postgresql


@pytest.fixture
def postgresql() -> Iterator[PostgreSQL]:
    with PostgreSQL() as server:
        yield server


def test_a_server_that_is_killed_and_started_again(postgresql: PostgreSQL, tmp_path: Path) -> None:
    with Site(tmp_path, "-w", "2", storage=postgresql.zodburi(), **HASTY) as site:
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
    with Site(tmp_path, storage=postgresql.zodburi(), **HASTY) as site:
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
        with Site(tmp_path, storage=server.zodburi(), storage_wait="120") as site:
            site.wait_for_output("waiting up to 120 s", seconds=STARTING_SECONDS)
            server.start()
            site.wait_until_serving()
            wait_until(lambda: site.post() == 1, "the site counts")
    finally:
        server.stop()


def test_processes_that_open_an_empty_database_at_once(
    postgresql: PostgreSQL, tmp_path: Path
) -> None:
    """Each wants to make the tables."""
    program = (
        "import sys\n"
        "from nti.appserver.settings import Settings\n"
        "from nti.appserver.storage import open_database\n"
        "settings = Settings(var=sys.argv[2])\n"
        "print('ready', flush=True)\n"
        "sys.stdin.readline()\n"
        "open_database(sys.argv[1], settings).close()\n"
    )
    for number in range(2):
        postgresql.create_database(f"fresh{number}")
        uri = postgresql.zodburi(f"fresh{number}")
        command = [sys.executable, "-c", program, uri, str(tmp_path / "var")]
        pipe = subprocess.PIPE
        opening = [
            subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) for _ in range(4)
        ]
        for process in opening:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
        for process in opening:
            assert process.stdin is not None
            process.stdin.write(b"\n")
            process.stdin.flush()
        for process in opening:
            _, said = process.communicate(timeout=60)
            assert process.returncode == 0, said.decode()


@pytest.mark.parametrize("fault", ["killed", pytest.param("stopped", marks=pytest.mark.soak)])
def test_under_writes_nothing_acknowledged_is_lost_and_nothing_else_is_there(
    fault: str, postgresql: PostgreSQL, tmp_path: Path
) -> None:
    options = {"source": APPLICATION, "storage_timeout": "2", "request_deadline": "4"}
    with Site(tmp_path, "-w", "2", storage=postgresql.zodburi(), **options) as site:
        site.wait_until_serving()
        with Writers(site) as writers:
            wait_until(lambda: writers.acknowledged() >= 10, "the site serves")
            began = time.monotonic()
            pids = postgresql.processes()
            if fault == "killed":
                postgresql.kill()
                wait_until(lambda: refused(writers, began), "the site refuses")
                postgresql.start()
            else:
                for pid in pids:
                    os.kill(pid, signal.SIGSTOP)
                wait_until(lambda: refused(writers, began), "the site refuses")
                for pid in pids:
                    os.kill(pid, signal.SIGCONT)
            before = writers.acknowledged()
            wait_until(lambda: writers.acknowledged() >= before + 10, "the site goes on")
        writers.check()


def refused(writers: Writers, since: float) -> bool:
    return any(write.status == 503 for write in writers.since(since))
