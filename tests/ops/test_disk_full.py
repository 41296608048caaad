"""A full disk: writing fails with a clear error, reading goes on, nothing acknowledged is lost."""

import http.client
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from nti.appserver.testing.process import GunicornProcess, wait_until
from tests.ops.conftest import ROOT

SIZE = 512 * 1024


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MiB, of which 8 are taken by a file that can be removed."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", os.fspath(disk)]
    done = subprocess.run(mounting, capture_output=True, text=True, timeout=20)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    try:
        (disk / "ballast").write_bytes(bytes(8 << 20))
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", os.fspath(disk)], check=True, timeout=20)


def ask(site: GunicornProcess, method: str, path: str, body: bytes = b"") -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=60)
    try:
        connection.request(method, path, body, {"Connection": "close"})
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def started(tmp_path: Path, disk: Path) -> GunicornProcess:
    environ = {
        "PYTHONPATH": os.fspath(ROOT),
        "NTI_APPSERVER_APPLICATION": "tests.ops.storing:site",
        "NTI_APPSERVER_VAR": os.fspath(disk / "var"),
    }
    return GunicornProcess("nti.appserver.gunicorn:app", "-w", "2", cwd=tmp_path, environ=environ)


def test_a_full_disk_loses_nothing_and_mends_itself(tmp_path: Path, small_disk: Path) -> None:
    acknowledged = []
    with started(tmp_path, small_disk) as site:
        site.wait_until_serving()
        for number in range(40):
            status, body = ask(site, "POST", f"/{number}", os.urandom(SIZE))
            if status != 200:
                break
            acknowledged.append(number)
        assert status in (500, 503), (status, body)
        assert "No space" not in body, "the client is not told of the server's disks"
        assert acknowledged
        site.wait_for_output("No space left on device")
        last = f"/{acknowledged[-1]}"
        # A worker hears of what the other has committed a moment later.
        wait_until(lambda: ask(site, "GET", last) == (200, str(SIZE)), "reading goes on")
        (small_disk / "ballast").unlink()
        wait_until(
            lambda: ask(site, "POST", "/again", bytes(1000)) == (200, "1000"),
            "writing works again by itself",
        )
        site.stop(signal.SIGKILL)
    with started(tmp_path, small_disk) as site:
        site.wait_until_serving()
        assert ask(site, "GET", "/again") == (200, "1000")
        for number in acknowledged:
            assert ask(site, "GET", f"/{number}") == (200, str(SIZE))
