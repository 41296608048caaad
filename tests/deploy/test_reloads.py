"""Reloads, upgrades and restarts under load, through every front: no request is lost."""

import contextlib
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from nti.appserver.testing.process import free_port, wait_until
from tests.deploy import programs
from tests.deploy.conftest import fronts
from tests.deploy.fronts import FRONTS, Front, Site
from tests.deploy.load import Load
from tests.deploy.units import hand_over

#: Fronts for the tests that have an application server of their own.
ON_TCP = [kind for kind in FRONTS if kind.name in ("nginx complete", "haproxy tls")]


@pytest.fixture(scope="module")
def reloaded(site: Site, running: Callable[[str], Front]) -> dict[str, tuple[Load, str]]:
    """One HUP under load on all fronts: each front's load, and how its WebSocket ended."""
    names = [k.name for k in FRONTS if not k.name.startswith("pound") or programs.find("pound")]
    started = {name: running(name) for name in names}
    loads = {name: Load(front.connection, kept=front.kind.files) for name, front in started.items()}
    with contextlib.ExitStack() as stack:
        # Socket.IO's, since it pings: nginx would end an idle one.
        clients = {
            name: stack.enter_context(front.socketio("websocket"))
            for name, front in started.items()
        }
        for load in loads.values():
            stack.enter_context(load)
        old = {pid for load in loads.values() for pid in load.pids}
        for app in site.apps.values():
            app.send_signal(signal.SIGHUP)
        for load in loads.values():
            load.wait_for_another(old)
        wait_until(lambda: not alive(old), "the old workers have ended", seconds=60)
        ends = {name: client.wait_for_end() for name, client in clients.items()}
    return {name: (loads[name], ends[name]) for name in names}


def alive(pids: set[int]) -> set[int]:
    """Those that have not ended; a worker that has is reaped by its master."""
    return {pid for pid in pids if Path(f"/proc/{pid}").exists()}


@fronts()
def test_a_reload_loses_no_request(front: Front, reloaded: dict[str, tuple[Load, str]]) -> None:
    load, _ = reloaded[front.kind.name]
    assert load.problems == []
    assert len(load.pids) > 1


@fronts()
def test_a_reload_closes_websockets_politely(
    front: Front, reloaded: dict[str, tuple[Load, str]]
) -> None:
    assert reloaded[front.kind.name][1] == "closed 1012"


@pytest.fixture
def own_site(site: Site, tmp_path: Path) -> Site:
    """The site of one test, its application server not started."""
    port = free_port()
    app = programs.Gunicorn(
        tmp_path / "app", "tcp", {}, listen=f"127.0.0.1:{port}", workers=1, graceful_timeout=10
    )
    address = {"tcp": f"127.0.0.1:{port}"}
    return replace(site, folder=tmp_path, apps={"tcp": app}, addresses=address)


@contextlib.contextmanager
def under_load(site: Site) -> Iterator[list[Load]]:
    """Load through the fronts and on the application server itself; nothing may be lost."""
    with contextlib.ExitStack() as stack:
        loads = [
            Load(Front(kind, site).start(stack).connection, kept=kind.files)
            for kind in FRONTS
            if kind in ON_TCP or kind.name == "gunicorn tcp"
        ]
        for load in loads:
            stack.enter_context(load)
        yield loads
    assert [load.problems for load in loads] == [[]] * len(loads)


def test_an_upgrade_of_gunicorn_loses_no_request(own_site: Site) -> None:
    """USR2 starts a second master on the same socket; TERM ends the first."""
    app = own_site.apps["tcp"]
    with app, under_load(own_site) as loads:
        old = {pid for load in loads for pid in load.pids}
        app.send_signal(signal.SIGUSR2)
        wait_until(lambda: app.output().count("Booting worker") == 2, "a second master has booted")
        second = int(app.output().rpartition("Booting worker with pid: ")[2].split()[0])
        wait_until(lambda: any(second in load.pids for load in loads), "its worker answers")
        app.send_signal(signal.SIGTERM)
        assert app.wait() == 0
        for load in loads:
            load.wait_for_another(old)
        assert not alive(old)


def test_a_restart_under_socket_activation_loses_no_request(own_site: Site) -> None:
    """The socket outlives the server, so whoever comes in between waits."""
    app = own_site.apps["tcp"]
    with socket.create_server(app.address, backlog=2048) as held:
        hand_over(app, held)
        with app, under_load(own_site) as loads:
            old = {pid for load in loads for pid in load.pids}
            assert app.stop() == 0
            app.start()
            for load in loads:
                load.wait_for_another(old)
