"""What becomes of Socket.IO's clients when the worker ends."""

import signal
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
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
        # A poll and two WebSockets, each told for its session.
        wait_until(lambda: visit(lender, "/lent").startswith("3 "), "all clients wait")
        visit(lender, "/drain?restart")
        assert polling.wait_for_end() == "close"
        assert websocket.wait_for_end() == "closed 1012"
        assert upgraded.wait_for_end() == "closed 1012"
        with pytest.raises(RequestFailed, match="the server is ending"):
            SocketIO(lender.url, transport="polling")
    gone = ["gone", "/", "server disconnect"]
    wait_until(lambda: get(lender, "/").count(gone) >= 1, "disconnect handlers ran")


def serving_slowly(folder: Path) -> GunicornProcess:
    """The site whose events take as long as they are told to."""
    settings = {"APPLICATION": "tests.socketio.storing:site", "NAMESPACES": SLOW}
    environ = {f"NTI_APPSERVER_{name}": value for name, value in settings.items()}
    return GunicornProcess(cwd=folder, environ={**environ, "PYTHONPATH": str(ROOT)})


@pytest.mark.parametrize("transport", ["websocket", "polling"])
def test_a_worker_ends_after_its_handlers(tmp_path: Path, transport: str) -> None:
    """Whose units of work need the database; nobody waits for them at the other end."""
    with serving_slowly(tmp_path) as server:
        server.wait_until_serving()
        with SocketIO(server.url, transport=transport) as client:
            client.emit("store", "enough")
            client.wait_for("storing")
            server.send_signal(signal.SIGHUP)
            client.wait_for_end()
        (tmp_path / "enough").touch()
        wait_until(lambda: visit(server, "/") == "1 server disconnect", "both are stored")
        assert "Traceback" not in server.output()


@pytest.mark.parametrize("transport", ["websocket", "polling"])
def test_an_event_under_way_is_acknowledged(tmp_path: Path, transport: str) -> None:
    """The session closes after its handlers; what comes meanwhile is not handled any more."""
    with serving_slowly(tmp_path) as server:
        server.wait_until_serving()
        with SocketIO(server.url, transport=transport) as client:
            with ThreadPoolExecutor() as pool:
                acknowledged = pool.submit(client.call, "store", "enough")
                client.wait_for("storing")
                server.send_signal(signal.SIGHUP)
                wait_until(lambda: drains(server), "the worker drains")
                with suppress(RequestFailed):  # the next worker does not know the session
                    client.emit("store", ".")  # which would be stored at once
                (tmp_path / "enough").touch()
                assert acknowledged.result(20) == []
            assert client.wait_for_end() == ("close" if transport == "polling" else "closed 1012")
        wait_until(lambda: visit(server, "/") == "1 server disconnect", "one is stored")


def drains(server: GunicornProcess) -> bool:
    """Whether a worker says that it is being replaced."""
    records = (server.cwd / "var" / "run" / "ops").glob("worker-*.json")
    return any("draining (restart)" in record.read_text() for record in records)


def visit(server: GunicornProcess, path: str) -> str:
    with urllib.request.urlopen(server.url + path, timeout=20) as response:
        return response.read().decode()
