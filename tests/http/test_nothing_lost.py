"""Workers come and go under load; every request is answered, through proxies that try none again.

The listening socket is the test's, as a socket unit would hold it: requests that come while the
server restarts wait in its backlog.
"""

import os
import shutil
import signal
import socket
import sys
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

#: Hands a listening socket to gunicorn as systemd does: as descriptor 3, with this process's id.
ACTIVATE = """
import os, sys
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
if int(sys.argv[1]) != 3:
    os.dup2(int(sys.argv[1]), 3)
os.execv(sys.argv[2], sys.argv[2:])
"""

#: How long the server is left alone between two events, in seconds.
EVERY = 0.5


#: The first is a plain WSGI application, whose workers close idle connections when they end; with
#: the second, which has Socket.IO, they give them to each other.
APPLICATIONS = ["tests.http.apps:application", "tests.http.apps:app"]


def gunicorn(app: str, listening: socket.socket, folder: Path) -> ServerProcess:
    descriptor = listening.fileno()
    command = [sys.executable, "-c", ACTIVATE, str(descriptor), *OPTIONS, app]
    return ServerProcess(command, cwd=folder, descriptors=[descriptor])


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=512) as sock:
        yield sock


def reload(server: ServerProcess) -> None:
    """HUP; over when those from before have ended, and two serve."""
    before = server.output().count("Booting worker")
    server.send_signal(signal.SIGHUP)

    def over() -> bool:
        output = server.output()
        boots = output.count("Booting worker")
        return boots >= before + 2 and boots - output.count("Worker exiting") == 2

    wait_until(over, "two new workers serve", seconds=PATIENCE)


def restart(server: ServerProcess) -> None:
    """TERM, and start again."""
    before = server.output().count("Serving ")
    assert server.stop(seconds=PATIENCE) == 0, server.output()
    server.start()
    wait_until(
        lambda: server.output().count("Serving ") > before, "it serves again", seconds=PATIENCE
    )


def lost_under_load(
    kind: str, app: str, total: int, listening: socket.socket, folder: Path
) -> list[str]:
    """What went wrong in `total` requests or more, while the server is reloaded and restarted."""
    if shutil.which(kind) is None:
        if os.environ.get("REQUIRE_PROXIES") == "1":
            pytest.fail(f"{kind} is not installed")
        pytest.skip(f"{kind} is not installed")
    address = f"127.0.0.1:{listening.getsockname()[1]}"
    with ExitStack() as stack:
        server = stack.enter_context(gunicorn(app, listening, folder))
        server.wait_for_output("Serving ", seconds=PATIENCE)
        port = stack.enter_context(front(kind, address, folder))
        with Load(port) as load:
            for event in cycle((reload, restart)):
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
