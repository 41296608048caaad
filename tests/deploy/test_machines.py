"""Several machines: HAProxy keeps a Socket.IO session on its machine, Redis carries what all hear.

The machines are two gunicorns, each with a folder and a port of its own; all that
they share is Redis.
"""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from nti.appserver.testing.process import ServerProcess, free_port, wait_until
from nti.appserver.testing.socketio import SocketIO
from tests.deploy import programs
from tests.deploy.fronts import Front, Kind, Site, haproxy

#: Clients from these addresses; that they land on both machines is a matter of turns.
SOURCES = [f"127.0.1.{number}" for number in range(1, 7)]

KIND = Kind("haproxy several", ("one", "two"), haproxy("several"), tls=True)


def redis() -> str:
    """The program, or the reason to skip; under REQUIRE_REDIS=1 to fail."""
    found = programs.find("redis-server")
    if found is None and os.environ.get("REQUIRE_REDIS") == "1":
        pytest.fail("redis-server is not installed")
    return found or pytest.skip("redis-server is not installed")


@pytest.fixture(scope="module")
def front(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    folder = tmp_path_factory.mktemp("machines")
    bus = free_port()
    command = [redis(), "--port", str(bus), "--bind", "127.0.0.1", "--save", ""]
    environ = {"NTI_APPSERVER_BUS": f"redis://127.0.0.1:{bus}/0"}
    ports = {name: free_port() for name in KIND.app}
    apps = {
        name: programs.Gunicorn(
            folder / name, "tcp", environ, listen=f"127.0.0.1:{port}", workers=1, graceful_timeout=5
        )
        for name, port in ports.items()
    }
    addresses = {name: f"127.0.0.1:{port}" for name, port in ports.items()}
    with contextlib.ExitStack() as stack:
        broker = stack.enter_context(ServerProcess(command, cwd=folder))
        broker.wait_for_output("Ready to accept connections")
        for app in apps.values():
            stack.enter_context(app)
        own = replace(site, folder=folder, apps=apps, addresses=addresses)
        front = Front(KIND, own).start(stack)
        wait_until(lambda: hear_each_other(front), "the machines hear each other")
        yield front


def hear_each_other(front: Front) -> bool:
    """A worker subscribes a moment after its first client has come; until then it misses some."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(front.socketio("websocket", source)) for source in SOURCES]
        clients[0].emit("say", "hello")
        try:
            return all(client.wait_for("said", timeout=1) for client in clients)
        except TimeoutError:
            return False


def machine(client: SocketIO) -> int:
    """The worker that holds the client's session; each machine has one."""
    (pid,) = client.call("say", "where am I")
    return int(pid)


@pytest.mark.parametrize("transport", ["polling", "upgrade", "websocket"])
def test_a_session_stays_on_its_machine_and_all_hear_each_other(
    front: Front, transport: str
) -> None:
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(front.socketio(transport, source)) for source in SOURCES]
        homes = [machine(client) for client in clients]
        assert len(set(homes)) == 2
        assert [[machine(client) for _ in range(5)] for client in clients] == [
            [home] * 5 for home in homes
        ]
        for number, client in enumerate(clients):
            client.emit("say", f"{transport} {number}")
            for other in clients:
                wait_until(
                    lambda c=other, t=f"{transport} {number}": c.wait_for("said")[0] == t,
                    "everybody hears it",
                )


def test_a_machine_that_stops_gets_no_clients_and_one_that_is_back_does(
    front: Front, tmp_path: Path
) -> None:
    one, two = front.site.apps["one"], front.site.apps["two"]
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(front.socketio("websocket", source)) for source in SOURCES]
        homes = [machine(client) for client in clients]
        one.stop()
        stayed = [client for client in clients if not ended(client)]
        assert 0 < len(stayed) < len(clients)
        (second,) = {home for home, client in zip(homes, clients, strict=True) if client in stayed}
        # Those who lost theirs come again, from the same addresses, and find the other.
        again = [stack.enter_context(front.socketio("polling", source)) for source in SOURCES]
        assert {machine(client) for client in again} == {second}
    one.start()
    new = (f"127.0.2.{number}" for number in range(1, 250))

    def somebody_is_on_the_first() -> bool:
        with front.socketio("polling", next(new)) as client:
            return machine(client) != second

    wait_until(somebody_is_on_the_first, "the machine that is back gets clients")
    assert two.answers()


def ended(client: SocketIO) -> bool:
    """Whether the client's session is over, by its machine's stop."""
    try:
        machine(client)
    except (AssertionError, OSError, TimeoutError):
        return True
    return False
