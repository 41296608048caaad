"""The units, used as systemd uses them: verified, started, reloaded, stopped, confined."""

import json
import os
import socket
import sys
import threading
from http.client import HTTPConnection
from pathlib import Path

import pytest

from nti.appserver.deploy.render import render
from nti.appserver.testing.process import GUNICORN, free_port
from nti.appserver.testing.websocket import Closed, WebSocket
from tests.deploy.programs import need, run
from tests.deploy.units import Service, activated_by_systemd

SITE = """
import json, os
def app(environ, start_response):
    websocket = environ.get("wsgi.websocket")
    if websocket is not None:
        while (message := websocket.receive()) is not None:
            websocket.send(message)
        return []
    start_response("200 OK", [])
    return [json.dumps([VERSION, os.getpid()]).encode()]
"""


def write_site(folder: Path, version: str) -> None:
    """The site's code, which a reload brings in."""
    (folder / "site_code.py").write_text(f"VERSION = {version}\n{SITE}")


class Site:
    """A rendered gunicorn configuration and units in a folder, with an application."""

    def __init__(self, folder: Path, variant: str) -> None:
        self.folder, self.port = folder, free_port()
        self.path = str(folder / "app.sock")
        where = {"listen": f"127.0.0.1:{self.port}"} if variant == "tcp" else {"socket": self.path}
        text = render("gunicorn", variant, workers=1, var=folder / "var", **where)
        self.config = folder / "gunicorn.conf.py"
        self.config.write_text(text["gunicorn.conf.py"])
        self.units = render("systemd", variant, prefix=sys.prefix, config=self.config, **where)
        self.address = where.get("listen", self.path)
        self.environ = {
            "NTI_APPSERVER_APPLICATION": "site_code:app",
            "NTI_APPSERVER_STORAGE": "none",
            "PYTHONPATH": os.pathsep.join([str(folder), *filter(None, sys.path)]),
            "PYTHONDONTWRITEBYTECODE": "1",  # a reload within a second must not meet old bytecode
        }
        write_site(folder, "1")

    def get(self, path: str = "/") -> bytes:
        """The body of an answer with the status 200, whether the socket is a port or a file."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        if self.address == self.path:
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.settimeout(30)
            connection.sock.connect(self.path)
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read()
        connection.close()
        assert response.status == 200, body
        return body

    def serving(self) -> tuple[int, int]:
        """The version of the code, and the worker that answered."""
        version, pid = json.loads(self.get())
        return version, pid


@pytest.fixture(params=["tcp", "unix"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Site:
    need("systemd-analyze")
    return Site(tmp_path, request.param)


@pytest.fixture
def tcp_site(tmp_path: Path) -> Site:
    need("systemd-analyze")
    return Site(tmp_path, "tcp")


def test_systemd_verifies_the_units_and_finds_them_confined(site: Site) -> None:
    paths = []
    for name, text in site.units.items():
        paths.append(site.folder / name)
        paths[-1].write_text(text)
    done = run(need("systemd-analyze"), "verify", "--man=no", *paths)
    assert (done.returncode, done.stderr) == (0, "")
    scored = run("systemd-analyze", "security", "--offline=yes", "--threshold=20", paths[0])
    assert scored.returncode == 0, scored.stdout[-500:] + scored.stderr


def test_it_says_when_it_is_ready_and_reloads_and_stops(site: Site) -> None:
    with Service(site.units, site.folder, site.environ) as service:
        assert "READY=1" in service.notification()
        assert site.serving()[0] == 1
        write_site(site.folder, "2")
        reloaded = service.reload()
        assert reloaded.returncode == 0, reloaded.stderr
        assert site.serving()[0] == 2, "the reload has waited for the new code"
        assert service.stop() == 0


@pytest.mark.parametrize("broken", ["no python", "undefined_name"])
def test_a_reload_with_broken_code_leaves_the_old_workers_alone(
    tcp_site: Site, broken: str
) -> None:
    site = tcp_site
    with Service(site.units, site.folder, site.environ) as service:
        old = site.serving()
        with WebSocket(f"ws://127.0.0.1:{site.port}/") as websocket:
            write_site(site.folder, broken)
            failed = service.reload()
            assert failed.returncode == 1
            assert "running ones were not touched" in failed.stderr
            assert "site_code.py" in failed.stderr
            assert site.serving() == old
            websocket.send("still here")
            assert websocket.receive() == "still here"
            assert "Handling signal: hup" not in service.output()
            write_site(site.folder, "3")
            assert service.reload().returncode == 0
            with pytest.raises(Closed, match="1012"):
                websocket.receive(timeout=30)
        assert site.serving()[0] == 3, "the mended code"


def test_a_reload_with_a_broken_configuration_is_refused(tcp_site: Site) -> None:
    site = tcp_site
    with Service(site.units, site.folder, site.environ) as service:
        old = site.serving()
        text = site.config.read_text()
        for wrong in ("workers = 'many'", "no python", "raw_env = ['NTI_APPSERVER_ATTEMPTS=x']"):
            site.config.write_text(f"{text}\n{wrong}\n")
            failed = service.reload()
            assert failed.returncode == 1, wrong
            assert "running ones were not touched" in failed.stderr
        assert site.serving() == old


def test_systemd_s_own_activation_answers_those_who_came_before_the_server(site: Site) -> None:
    program = need("systemd-socket-activate")
    command = [GUNICORN, "--config", str(site.config)]
    with activated_by_systemd(program, site.address, command, site.folder, site.environ) as server:
        answers: list[tuple[int, int]] = []
        threads = [
            threading.Thread(target=lambda: answers.append(site.serving())) for _ in range(20)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert [version for version, _ in answers] == [1] * len(threads)
        assert "Address already in use" not in server.output()
        assert server.stop() == 0


def confined(site: Site) -> tuple[str, ...]:
    """The command that runs another under the service's rules: as root, without its powers."""
    unit = site.folder / "nti-appserver.service"
    unit.write_text(site.units[unit.name])
    here = (sys.executable, str(Path(__file__).with_name("confine.py")), str(unit))
    if os.geteuid() != 0:
        return here
    return (need("setpriv"), "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs", *here)


@pytest.mark.parametrize("application", ["site_code:app", "nti.appserver.dataserver:main"])
def test_it_runs_under_its_own_rules(tcp_site: Site, application: str) -> None:
    """The system calls and address families that the unit allows are enough, ZEO's too."""
    environ = {**tcp_site.environ, "NTI_APPSERVER_APPLICATION": application}
    if application != "site_code:app":
        environ["NTI_APPSERVER_STORAGE"] = "embedded"
    before = confined(tcp_site)
    with Service(tcp_site.units, tcp_site.folder, environ, before) as service:
        assert tcp_site.get("/")
        assert b"appserver_workers 1" in tcp_site.get("/_ops/metrics")
        assert service.reload().returncode == 0
        assert service.output().count("Booting worker") == 2, "a new worker"
        assert tcp_site.get("/")
        assert service.stop() == 0
        assert "Operation not permitted" not in service.output()


def test_the_rules_refuse_what_they_say(tcp_site: Site) -> None:
    """So the test above means something."""
    code = "import os, socket; {}"
    for forbidden in ("os.nice(1)", "os.chroot('/')", "socket.socket(socket.AF_NETLINK)"):
        done = run(*confined(tcp_site), sys.executable, "-c", code.format(forbidden))
        assert "Operation not permitted" in done.stderr, forbidden
