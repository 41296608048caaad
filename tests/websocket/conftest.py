"""A server for the functional tests, on this package's worker and on gunicorn's own."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nti.appserver.testing.process import WORKER_CLASS, GunicornProcess
from nti.appserver.testing.websocket import WebSocket

ROOT = Path(__file__).parents[2]
STOCK_WORKER = "gunicorn.workers.ggevent.GeventWorker"

Opener = Callable[..., WebSocket]

SETTINGS = {
    "NTI_APPSERVER_WEBSOCKET_DEFLATE": "1",
    "NTI_APPSERVER_WEBSOCKET_QUEUE_SIZE": "1m",
    "NTI_APPSERVER_SEND_TIMEOUT": "1",
    "NTI_APPSERVER_ORIGINS": "http://partner.example",
}


@pytest.fixture(scope="package", params=[WORKER_CLASS, STOCK_WORKER], ids=["ours", "stock"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GunicornProcess]:
    """gunicorn serving tests/websocket/apps.py."""
    with GunicornProcess(
        "tests.websocket.apps:app",
        "--pythonpath",
        str(ROOT),
        worker=request.param,
        cwd=tmp_path_factory.mktemp("server"),
        environ=SETTINGS,
    ) as process:
        yield process.wait_until_serving()


@pytest.fixture
def open_websocket(server: GunicornProcess) -> Iterator[Opener]:
    """Opens WebSockets at a path of the server; they are ended after the test."""
    opened: list[WebSocket] = []

    def opener(path: str, **options: object) -> WebSocket:
        url = f"ws://127.0.0.1:{server.port}{path}"
        opened.append(WebSocket(url, **options))  # type: ignore[arg-type]
        return opened[-1]

    yield opener
    for ws in opened:
        ws.abort()
