"""`nti-appserver reload`: it returns when new code serves, and fails where it does not."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nti.appserver.testing.process import wait_until
from tests.ops.conftest import ROOT, Site

RELOAD = [sys.executable, "-c", "from nti.appserver.ops.reload import reload; reload()"]

CODE = """
from nti.appserver.ops import OpsMiddleware
def answer(environ, start_response):
    start_response("200 OK", [])
    return [b"VERSION"]
app = OpsMiddleware(answer)
"""


def write_code(folder: Path, version: str) -> None:
    (folder / "reloaded.py").write_text(CODE.replace("VERSION", version))


def reload(folder: Path, *options: object) -> "subprocess.CompletedProcess[str]":
    environ = {**os.environ, "PYTHONPATH": os.fspath(ROOT)}
    command = [*RELOAD, *map(str, options)]
    return subprocess.run(
        command, cwd=folder, env=environ, capture_output=True, text=True, timeout=120
    )


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    write_code(tmp_path, "1")
    path = os.pathsep.join(map(str, (ROOT, tmp_path)))
    environ = {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    with Site("reloaded:app", "-w", "2", cwd=tmp_path, environ=environ) as site:
        site.wait_until_serving()
        wait_until(lambda: site.metric("appserver_workers") == 2, "two workers")
        yield site


def test_it_returns_when_the_new_code_serves_alone(site: Site) -> None:
    for version in ("2", "3"):
        write_code(site.cwd, version)
        done = reload(site.cwd)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("2 new workers serve, ")
        assert {site.get("/").body for _ in range(20)} == {version}


def test_it_fails_where_the_new_code_does_not_load(site: Site) -> None:
    write_code(site.cwd, '"unbalanced')
    done = reload(site.cwd, "--timeout", 3)
    assert done.returncode == 1
    assert "after 3 s 0 new workers serve, and so do 2 old ones" in done.stderr
    assert site.get("/").body == "1"


def test_it_needs_to_know_whom_to_tell(tmp_path: Path) -> None:
    done = reload(tmp_path)
    assert done.returncode == 1
    assert "no worker has written to" in done.stderr
    assert "name the site's var with --var" in done.stderr


def test_where_nothing_runs_any_more_no_process_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "var" / "run" / "ops").mkdir(parents=True)
    done = reload(tmp_path)
    assert done.returncode == 1
    assert "no worker runs on var/run/ops; run it in the site's folder" in done.stderr


def test_a_process_that_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    done = reload(tmp_path, "--pid", ended.pid)
    assert done.returncode == 1
    assert done.stderr == f"Error: there is no process {ended.pid}\n"


def test_a_gunicorn_without_records_is_told_all_the_same(site: Site, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    done = reload(elsewhere, "--pid", site.pid)
    assert done.returncode == 0
    assert f"gunicorn {site.pid} was told; no worker has written to" in done.stdout
    site.wait_for_output("Handling signal: hup")
