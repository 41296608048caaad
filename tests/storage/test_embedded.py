"""The embedded server: one for all, there when it is needed, gone afterwards."""

import contextlib
import http.client
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from nti.appserver.errors import ConfigurationError
from nti.appserver.settings import Settings
from nti.appserver.storage import open_database
from nti.appserver.storage.embedded.client import SERVER
from nti.appserver.storage.embedded.place import Place
from nti.appserver.testing.process import GunicornProcess, wait_until

APPLICATION = """
from nti.appserver.transactions import connection

def count(environ, start_response):
    root = connection().root()
    if environ["REQUEST_METHOD"] == "POST":
        root["count"] = root.get("count", 0) + 1
    body = str(root.get("count", 0)).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]

def main():
    return count
"""


def servers(folder: Path) -> list[psutil.Process]:
    """The embedded servers of a site that live."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        line = process.info["cmdline"] or []
        if SERVER in line and str(folder / "var") in line:
            found.append(process)
    return [each for each in found if each.is_running() and each.status() != "zombie"]


def until_gone(folder: Path) -> None:
    wait_until(lambda: not servers(folder), "the embedded server has ended")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "counting.py").write_text(APPLICATION)
    yield tmp_path
    for process in servers(tmp_path):
        process.kill()


class Site(GunicornProcess):
    """A site that counts POSTs, on the embedded storage."""

    def __init__(self, folder: Path, *options: str) -> None:
        environ = {
            "NTI_APPSERVER_APPLICATION": "counting:main",
            "NTI_APPSERVER_ATTEMPTS": "20",
            "NTI_APPSERVER_STORAGE_TIMEOUT": "2",
            "NTI_APPSERVER_REQUEST_DEADLINE": "5",
        }
        app = "nti.appserver.gunicorn:app"
        super().__init__(app, "-w", "2", *options, cwd=folder, environ=environ)

    def post(self) -> int:
        """Count once; the number, or 0 when the storage is away."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(connection):
            connection.request("POST", "/", b"")
            answer = connection.getresponse()
            body = answer.read()
        assert answer.status in (200, 503), body
        return int(body) if answer.status == 200 else 0


def test_workers_share_one_server_which_ends_with_them(folder: Path) -> None:
    with Site(folder) as site:
        site.wait_until_serving()
        assert [site.post() for _ in range(10)] == list(range(1, 11))
        (server,) = servers(folder)
        site.send_signal(signal.SIGHUP)
        wait_until(lambda: site.output().count("Booting worker") == 4, "new workers")
        wait_until(lambda: site.output().count("Worker exiting") == 2, "old workers end")
        assert site.post() == 11
        assert [each.pid for each in servers(folder)] == [server.pid]
    until_gone(folder)
    assert "ended" in (folder / "var" / "zeo.log").read_text()
    assert (folder / "var").stat().st_mode & 0o777 == 0o700


def test_a_killed_server_is_started_again_and_nothing_acknowledged_is_lost(folder: Path) -> None:
    with Site(folder) as site:
        site.wait_until_serving()
        acknowledged = sum(bool(site.post()) for _ in range(5))
        for _ in range(2):
            (server,) = servers(folder)
            server.kill()
            wait_until(site.post, "the site counts again")
            acknowledged += 1
        (server,) = servers(folder)
        assert site.post() == acknowledged + 1
    until_gone(folder)


def test_a_stopped_server_costs_503_within_the_bound_and_then_all_goes_on(folder: Path) -> None:
    with Site(folder) as site:
        site.wait_until_serving()
        assert site.post() == 1
        (server,) = servers(folder)
        server.send_signal(signal.SIGSTOP)
        try:
            assert site.post() == 0
        finally:
            server.send_signal(signal.SIGCONT)
        wait_until(site.post, "the site counts again")
        assert len(servers(folder)) == 1


def test_nothing_is_left_when_gunicorn_is_killed(folder: Path) -> None:
    with Site(folder) as site:
        site.wait_until_serving()
        assert site.post() == 1
        assert len(servers(folder)) == 1
        os.killpg(site.pid, signal.SIGKILL)
    until_gone(folder)


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
