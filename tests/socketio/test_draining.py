"""What becomes of Socket.IO's clients when the worker ends."""

import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from nti.appserver.testing.process import GunicornProcess, wait_until
from nti.appserver.testing.socketio import RequestFailed, SocketIO

from .conftest import ROOT, get

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


def visit(server: GunicornProcess, path: str) -> str:
    with urllib.request.urlopen(server.url + path, timeout=20) as response:
        return response.read().decode()
