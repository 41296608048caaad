"""What becomes of Socket.IO's clients when the worker ends."""

import signal
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from nti.appserver.testing.process import GunicornProcess, wait_until
from nti.appserver.testing.socketio import RequestFailed, SocketIO

from .conftest import ROOT, get

SLOW = "tests.socketio.storing:slow"
STOCK_WORKER = "gunicorn.workers.ggevent.GeventWorker"


@pytest.fixture
def lender(tmp_path: Path) -> Iterator[GunicornProcess]:
    with GunicornProcess(
        "tests.socketio.apps:lent", "--pythonpath", str(ROOT), worker=STOCK_WORKER, cwd=tmp_path
    ) as process:
        yield process.wait_until_serving()


def test_every_client_is_told_to_come_back(lender: GunicornProcess) -> None:
    """A poll that waits ends with Engine.IO's close, which clients answer by reconnecting."""
    with (
        SocketIO(lender.url, transport="polling") as polling,
        SocketIO(lender.url, transport="websocket") as websocket,
        SocketIO(lender.url, transport="upgrade") as upgraded,
    ):
        for client in (polling, websocket, upgraded):
            assert client.call("say", "hi") == ["heard", 1]
        # A poll waits, and each WebSocket is told itself and for the sessions.
        wait_until(lambda: visit(lender, "/lent").startswith("5 "), "all clients wait")
        visit(lender, "/drain?restart")
        assert polling.wait_for_end() == "close"
        assert websocket.wait_for_end() == "closed 1012"
        assert upgraded.wait_for_end() == "closed 1012"
        with pytest.raises(RequestFailed, match="the server is ending"):
            SocketIO(lender.url, transport="polling")
    gone = ["gone", "/", "server disconnect"]
    wait_until(lambda: get(lender, "/").count(gone) >= 1, "disconnect handlers ran")


@pytest.mark.parametrize("transport", ["websocket", "polling"])
def test_a_worker_ends_after_its_handlers(tmp_path: Path, transport: str) -> None:
    """Whose units of work need the database; nobody waits for them at the other end."""
    settings = {"APPLICATION": "tests.socketio.storing:site", "NAMESPACES": SLOW}
    environ = {f"NTI_APPSERVER_{name}": value for name, value in settings.items()}
    environ["PYTHONPATH"] = str(ROOT)
    with GunicornProcess(cwd=tmp_path, environ=environ) as server:
        server.wait_until_serving()
        with SocketIO(server.url, transport=transport) as client:
            client.emit("store", 2)
            client.wait_for("storing")
            server.send_signal(signal.SIGHUP)
            client.wait_for_end()
        wait_until(lambda: visit(server, "/") == "1 server disconnect", "both are stored")
        assert "Traceback" not in server.output()


def visit(server: GunicornProcess, path: str) -> str:
    with urllib.request.urlopen(server.url + path, timeout=20) as response:
        return response.read().decode()
