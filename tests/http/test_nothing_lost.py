"""Workers come and go under load; every request is answered, through proxies that try none again.

The listening socket is the test's, as a socket unit would hold it: requests that come while the
server restarts wait in its backlog. gunicorn takes it as from a gunicorn that it replaces: one
that got it from systemd cannot replace itself (it closes the descriptor that it is to inherit).
"""

import os
import re
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import cycle
from pathlib import Path

import pytest

from nti.appserver.testing.process import GUNICORN, WORKER_CLASS, ServerProcess, wait_until

from .conftest import ROOT
from .load import PATIENCE, Load, front

OPTIONS = [
    GUNICORN, "-k", WORKER_CLASS, "--no-control-socket", "--pythonpath", str(ROOT),
    "--workers", "2", "--keep-alive", "60", "--graceful-timeout", "20",
    "--max-requests", "900", "--max-requests-jitter", "300",
]  # fmt: skip

#: How long the server is left alone between two events, in seconds.
EVERY = 0.5


#: The first is a plain WSGI application, whose workers close idle connections when they end; with
#: the second, which has Socket.IO, they give them to each other.
APPLICATIONS = ["tests.http.apps:application", "tests.http.apps:app"]


class Site(ServerProcess):
    """gunicorn on a socket of the test's. After an upgrade the arbiter is another process."""

    def __init__(self, app: str, listening: socket.socket, folder: Path) -> None:
        descriptor = listening.fileno()
        replaces = {"GUNICORN_PID": "1", "GUNICORN_FD": str(descriptor)}
        super().__init__([*OPTIONS, app], cwd=folder, environ=replaces, descriptors=[descriptor])

    def masters(self) -> list[int]:
        """The arbiters that have begun, by their lines in the log."""
        return [int(pid) for pid in re.findall(r"\[(\d+)\] \[INFO\] Listening at", self.output())]

    def send_signal(self, number: int) -> None:
        os.kill(self.masters()[-1], number)

    def gone(self, pid: int) -> bool:
        """Whether a process has ended; an arbiter from an upgrade is no child of the test's."""
        assert self.process is not None
        self.process.poll()
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            return True


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=512) as sock:
        yield sock


def reload(server: Site) -> None:
    """HUP; over when those from before have ended, and two serve."""
    before = server.output().count("Booting worker")
    server.send_signal(signal.SIGHUP)

    def over() -> bool:
        output = server.output()
        boots = output.count("Booting worker")
        return boots >= before + 2 and boots - output.count("Worker exiting") == 2

    wait_until(over, "two new workers serve", seconds=PATIENCE)


def upgrade(server: Site) -> None:
    """USR2, and TERM to the old arbiter once the new one serves."""
    promoted = "Master has been promoted."
    output, old = server.output(), server.masters()[-1]
    server.send_signal(signal.SIGUSR2)
    wait_until(lambda: server.masters()[-1] != old, "another arbiter comes", seconds=PATIENCE)
    serves(server, output.count("Serving "))
    os.kill(old, signal.SIGTERM)
    wait_until(lambda: server.gone(old), "the old arbiter has ended", seconds=PATIENCE)
    # Only then would it do as it is told.
    before = output.count(promoted)
    wait_until(lambda: server.output().count(promoted) > before, "it is promoted", seconds=PATIENCE)


def restart(server: Site) -> None:
    """TERM, and start again."""
    before, old = server.output().count("Serving "), server.masters()[-1]
    server.send_signal(signal.SIGTERM)
    wait_until(lambda: server.gone(old), "the arbiter has ended", seconds=PATIENCE)
    server.stop()
    server.start()
    serves(server, before)


def serves(server: Site, before: int) -> None:
    """Wait until one more arbiter has a worker that serves."""
    wait_until(lambda: server.output().count("Serving ") > before, "it serves", seconds=PATIENCE)


def lost_under_load(
    kind: str, app: str, total: int, listening: socket.socket, folder: Path
) -> list[str]:
    """What went wrong in `total` requests or more, in spite of all that happens to the server."""
    if shutil.which(kind) is None:
        if os.environ.get("REQUIRE_PROXIES") == "1":
            pytest.fail(f"{kind} is not installed")
        pytest.skip(f"{kind} is not installed")
    address = f"127.0.0.1:{listening.getsockname()[1]}"
    with ExitStack() as stack:
        server = stack.enter_context(Site(app, listening, folder))
        server.wait_for_output("Serving ", seconds=PATIENCE)
        port = stack.enter_context(front(kind, address, folder))
        with Load(port) as load:
            for event in cycle((reload, upgrade, restart)):
                time.sleep(EVERY)
                event(server)
                if event is restart and load.done + len(load.problems) >= total:
                    break
            time.sleep(EVERY)
    assert load.posts > total / 3
    assert "graceful timeout" not in server.output()
    return load.problems


@pytest.mark.proxies
@pytest.mark.parametrize(
    ("kind", "app"), [("haproxy", APPLICATIONS[0]), ("nginx", APPLICATIONS[1])]
)
def test_through_a_proxy(kind: str, app: str, listening: socket.socket, tmp_path: Path) -> None:
    assert lost_under_load(kind, app, 1500, listening, tmp_path) == []


@pytest.mark.soak
@pytest.mark.proxies
@pytest.mark.parametrize("app", APPLICATIONS)
@pytest.mark.parametrize("kind", ["nginx", "haproxy"])
def test_ten_thousand(kind: str, app: str, listening: socket.socket, tmp_path: Path) -> None:
    assert lost_under_load(kind, app, 10_000, listening, tmp_path) == []
