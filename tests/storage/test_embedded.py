"""The embedded server: one for all, there when it is needed, gone afterwards."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from nti.appserver.errors import ConfigurationError
from nti.appserver.settings import Settings
from nti.appserver.storage import open_database
from nti.appserver.storage.embedded.place import Place
from nti.appserver.testing.process import wait_until
from nti.appserver.testing.zeo import clients_of
from tests.storage.sites import HASTY, Site, servers, until_gone
from tests.storage.writers import APPLICATION as WRITING
from tests.storage.writers import Writers


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    for process in servers(tmp_path):
        process.kill()


def clients(folder: Path) -> int:
    return clients_of(str(folder / "var" / "run" / "zeo.sock"))


def until_written(writers: Writers) -> None:
    enough = writers.acknowledged() + 10
    wait_until(lambda: writers.acknowledged() >= enough, "the site writes")


def test_workers_share_one_server_which_ends_with_them(folder: Path) -> None:
    with Site(folder, "-w", "2") as site:
        site.wait_until_serving()
        assert [site.post() for _ in range(10)] == list(range(1, 11))
        assert len(servers(folder)) == 1
        wait_until(lambda: clients(folder) == 2, "both workers are clients")
    until_gone(folder)
    assert "ended" in (folder / "var" / "zeo.log").read_text()
    assert (folder / "var").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    "how", ["HUP", "worker killed", pytest.param("recycled", marks=pytest.mark.soak)]
)
def test_a_worker_that_is_replaced_leaves_no_client_behind(folder: Path, how: str) -> None:
    options = ("--max-requests", "5") if how == "recycled" else ()
    with Site(folder, "-w", "2", *options) as site:
        site.wait_until_serving()
        assert site.post() == 1
        (server,) = servers(folder)
        wait_until(lambda: clients(folder) == 2, "both workers are clients")
        first = site.workers()
        if how == "HUP":
            site.send_signal(signal.SIGHUP)
        elif how == "worker killed":
            os.kill(first[0], signal.SIGKILL)
            first = first[:1]
        else:
            wait_until(lambda: site.ask("POST")[0] and not set(first) & set(site.workers()), how)
        wait_until(lambda: not set(first) & set(site.workers()), "the old workers have ended")
        wait_until(lambda: len(site.workers()) == 2, "there are new ones")
        wait_until(lambda: clients(folder) == 2, "the new workers alone are clients")
        assert site.post() > 1
        assert [each.pid for each in servers(folder)] == [server.pid]


def test_usr2_hands_the_server_on(folder: Path) -> None:
    with Site(folder, "--pid", "gunicorn.pid") as site:
        site.wait_until_serving()
        assert site.post() == 1
        (server,) = servers(folder)
        first = site.workers()
        site.send_signal(signal.SIGUSR2)
        second = folder / "gunicorn.pid.2"
        wait_until(second.exists, "a second arbiter")
        arbiter = int(second.read_text())
        try:
            wait_until(lambda: clients(folder) == 2, "its worker is a client, too")
            site.send_signal(signal.SIGTERM)
            site.wait()
            wait_until(lambda: clients(folder) == 1, "the old worker is none any more")
            assert not set(first) & set(site.workers())
            assert site.post() == 2
            assert [each.pid for each in servers(folder)] == [server.pid]
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(arbiter, signal.SIGTERM)
        until_gone(folder)


def test_a_killed_server_is_started_again_and_nothing_acknowledged_is_lost(folder: Path) -> None:
    with Site(folder, "-w", "2", source=WRITING) as site:
        site.wait_until_serving()
        with Writers(site) as writers:
            for _ in range(2):
                until_written(writers)
                (server,) = servers(folder)
                server.kill()
                server.wait(30)
                until_written(writers)
                assert len(servers(folder)) == 1
        writers.check()
        wait_until(lambda: clients(folder) == 2, "both workers are clients of the new one")
    until_gone(folder)


def test_a_stopped_server_costs_503_within_the_bound_and_then_all_goes_on(folder: Path) -> None:
    with Site(folder, **HASTY) as site:
        site.wait_until_serving()
        assert site.post() == 1
        (server,) = servers(folder)
        server.send_signal(signal.SIGSTOP)
        try:
            began = time.monotonic()
            assert site.post() == 0
            # Twice the setting storage_timeout, or the request's deadline, and a busy machine.
            assert time.monotonic() - began < 15
            assert site.ask("GET", "/alive")[0] == 200
        finally:
            server.send_signal(signal.SIGCONT)
        wait_until(site.post, "the site counts again")
        assert [each.pid for each in servers(folder)] == [server.pid]


@pytest.mark.parametrize("moment", ["starting", "serving"])
def test_nothing_is_left_when_gunicorn_is_killed(folder: Path, moment: str) -> None:
    with Site(folder, "-w", "2") as site:
        if moment == "serving":
            site.wait_until_serving()
            assert site.post() == 1
        wait_until(lambda: servers(folder), "a server, or its launcher", every=0.001)
        os.killpg(site.pid, signal.SIGKILL)
        until_gone(folder)


def test_nothing_is_left_when_the_arbiter_is_killed(folder: Path) -> None:
    with Site(folder) as site:
        site.wait_until_serving()
        assert site.post() == 1
        os.kill(site.pid, signal.SIGKILL)
        until_gone(folder)
        wait_until(lambda: not site.workers(), "its worker has ended, too")


def test_two_sites_in_one_folder_share_the_server(folder: Path) -> None:
    with Site(folder) as one, Site(folder) as other:
        one.wait_until_serving()
        other.wait_until_serving()
        assert [one.post(), other.post(), one.post()] == [1, 2, 3]
        (server,) = servers(folder)
        one.stop()
        assert other.post() == 4
        assert [each.pid for each in servers(folder)] == [server.pid]
    until_gone(folder)


@pytest.mark.soak
def test_a_runtime_folder_that_is_removed_is_made_anew(folder: Path) -> None:
    """As cleaners of temporary folders do; the server would be out of reach for the next worker."""
    with Site(folder) as site:
        site.wait_until_serving()
        assert site.post() == 1
        shutil.rmtree(folder / "var" / "run")
        wait_until(lambda: (folder / "var" / "run" / "zeo.sock").exists(), "a new server")
        wait_until(site.post, "the site counts again")
        wait_until(lambda: len(servers(folder)) == 1, "the first server has ended")
        (server,) = servers(folder)
        first = site.workers()
        os.kill(first[0], signal.SIGKILL)
        wait_until(lambda: set(site.workers()) - set(first), "another worker")
        wait_until(site.post, "it serves")
        assert [each.pid for each in servers(folder)] == [server.pid]
    until_gone(folder)


def test_a_child_that_outlives_its_worker_does_not_keep_the_server(tmp_path: Path) -> None:
    """A process that was forked has copies of all descriptors, those of the locks too."""
    program = (
        "import os, sys, time\n"
        "from nti.appserver.settings import Settings\n"
        "from nti.appserver.storage import open_database\n"
        "database = open_database('embedded', Settings(var=sys.argv[1]))\n"
        "child = os.fork()\n"
        "if child:\n"
        "    print(child, flush=True)\n"
        "    os._exit(0)\n"
        "time.sleep(120)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "var")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        try:
            assert parent.wait(30) == 0
            assert psutil.pid_exists(child)
            until_gone(tmp_path)
        finally:
            os.kill(child, signal.SIGKILL)


def test_processes_that_open_at_once_get_one_server(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from nti.appserver.settings import Settings\n"
        "from nti.appserver.storage import open_database\n"
        "database = open_database('embedded', Settings(var=sys.argv[1]))\n"
        "print('open', flush=True)\n"
        "sys.stdin.read()\n"
        "database.close()\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "var")]
    pipe = subprocess.PIPE
    opened = [subprocess.Popen(command, stdin=pipe, stdout=pipe) for _ in range(4)]
    try:
        for process in opened:
            assert process.stdout is not None
            assert process.stdout.readline() == b"open\n"
        assert len(servers(tmp_path)) == 1
    finally:
        for process in opened:
            process.communicate(timeout=30)
    assert [process.returncode for process in opened] == [0] * 4
    until_gone(tmp_path)


def test_what_keeps_it_from_starting_is_told(tmp_path: Path) -> None:
    settings = Settings(var=str(tmp_path / "var"))
    place = Place.of(settings)
    Path(place.file).write_bytes(b"this is no database")
    with pytest.raises(ConfigurationError, match="could not start") as caught:
        open_database("embedded", settings)
    assert "FileStorageFormatError" in str(caught.value)
    assert place.log in str(caught.value)


def test_a_socket_path_that_is_too_long_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="runtime_dir"):
        open_database("embedded", Settings(var=str(tmp_path / ("long" * 30))))
