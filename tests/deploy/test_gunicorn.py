"""gunicorn by its own configurations: who may use its socket, whom it believes, its log files."""

import getpass
import grp
import json
import os
import socket
import stat
from http.client import HTTPConnection
from pathlib import Path

import pytest

from nti.appserver.deploy.render import render
from nti.appserver.testing.process import free_port, wait_until
from nti.appserver.testing.websocket import WebSocket
from tests.deploy import programs
from tests.deploy.fronts import Site

CLAIM = {"X-Forwarded-For": "192.0.2.7", "X-Forwarded-Proto": "https"}


def over_unix(path: str, headers: dict[str, str]) -> dict[str, str]:
    """What the application saw of a request through the socket at `path`."""
    connection = HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(20)
    connection.sock.connect(path)
    connection.request("GET", "/dataserver2/x", headers=headers)
    seen: dict[str, str] = json.loads(connection.getresponse().read())
    connection.close()
    return seen


def test_a_unix_socket_is_for_its_owner_and_group_alone(site: Site) -> None:
    mode = os.stat(str(site.apps["unix"].address)).st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o770


def test_who_may_use_the_unix_socket_is_believed(site: Site) -> None:
    seen = over_unix(str(site.apps["unix"].address), CLAIM)
    assert (seen["REMOTE_ADDR"], seen["wsgi.url_scheme"]) == ("192.0.2.7", "https")


def test_a_websocket_through_the_unix_socket(site: Site) -> None:
    path = str(site.apps["unix"].address)
    with WebSocket("ws://localhost/dataserver2/socket", unix=path) as websocket:
        websocket.send("through a file")
        assert websocket.receive() == "through a file"


@pytest.mark.parametrize(("source", "believed"), [("127.0.0.1", True), ("127.0.0.9", False)])
def test_only_listed_proxies_are_believed(site: Site, source: str, believed: bool) -> None:
    host, port = site.apps["tcp"].address
    connection = HTTPConnection(host, int(port), timeout=20, source_address=(source, 0))
    connection.request("GET", "/dataserver2/x", headers=CLAIM)
    seen = json.loads(connection.getresponse().read())
    connection.close()
    assert seen["REMOTE_ADDR"] == ("192.0.2.7" if believed else source)
    assert seen["wsgi.url_scheme"] == ("https" if believed else "http")


def test_log_files_are_turned_over_and_no_line_is_lost(tmp_path: Path) -> None:
    """logrotate itself; what would call systemctl finds one that sends the signal."""
    logs, port = tmp_path / "logs", free_port()
    logs.mkdir(mode=0o750)
    app = programs.Gunicorn(
        tmp_path / "app", "logfiles", {}, listen=f"127.0.0.1:{port}", log_dir=logs, workers=1
    )
    user, group = getpass.getuser(), grp.getgrgid(os.getgid()).gr_name
    rules = tmp_path / "rules"
    rules.write_text(render("logrotate", log_dir=logs, user=user, group=group)["nti-appserver"])
    rules.chmod(0o644)
    with app:
        ask(port, "before")
        wait_until(lambda: "/before " in (logs / "access.log").read_text(), "a line is written")
        systemctl = tmp_path / "bin/systemctl"
        systemctl.parent.mkdir()
        systemctl.write_text(f'#!/bin/sh\necho "$@" >{tmp_path}/called\nkill -USR1 {app.pid}\n')
        systemctl.chmod(0o755)
        path = f"PATH={systemctl.parent}:{os.environ['PATH']}"
        done = programs.run(
            "env", path, programs.need("logrotate"), "--force", "--state", tmp_path / "state", rules
        )
        assert done.returncode == 0, done.stderr
        assert "--signal=USR1 nti-appserver.service" in (tmp_path / "called").read_text()

        def written() -> bool:
            ask(port, "after")
            return "/after " in (logs / "access.log").read_text()

        wait_until(written, "lines go to the new file")
        text = "".join(path.read_text() for path in logs.glob("access.log*"))
        assert "/before " in text
    assert stat.S_IMODE((logs / "access.log").stat().st_mode) == 0o640


def ask(port: int, path: str) -> None:
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", f"/{path}")
    assert connection.getresponse().read()
    connection.close()
