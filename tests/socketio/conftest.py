"""A server for the functional tests of Socket.IO."""

import json
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nti.appserver.testing.process import GunicornProcess
from nti.appserver.testing.socketio import SocketIO

ROOT = Path(__file__).parents[2]
TRANSPORTS = ("polling", "websocket", "upgrade")

Connect = Callable[..., SocketIO]


def start(folder: Path, *options: str, **settings: str) -> GunicornProcess:
    """gunicorn serving tests/socketio/apps.py with these settings; not started yet."""
    environ = {f"NTI_APPSERVER_{name.upper()}": value for name, value in settings.items()}
    return GunicornProcess(
        "tests.socketio.apps:app",
        *("--pythonpath", str(ROOT), "--graceful-timeout", "3"),
        *options,
        cwd=folder,
        environ=environ,
    )


def get(server: GunicornProcess, path: str) -> Any:
    """What the site answers, from JSON."""
    with urllib.request.urlopen(server.url + path, timeout=20) as response:
        return json.load(response)


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GunicornProcess]:
    """A server with the defaults, except for bounds that tests run into."""
    folder = tmp_path_factory.mktemp("server")
    with start(
        folder,
        websocket_message_size="100k",
        websocket_queue_size="1m",
        origins="http://partner.example",
    ) as process:
        yield process.wait_until_serving()


@pytest.fixture(scope="package")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GunicornProcess]:
    """A server whose timeouts are short."""
    folder = tmp_path_factory.mktemp("hasty")
    with start(folder, ping_interval="0.3", ping_timeout="0.5", connect_timeout="1") as process:
        yield process.wait_until_serving()


@pytest.fixture
def connect(server: GunicornProcess) -> Iterator[Connect]:
    """Connects clients; they are ended after the test."""
    clients: list[SocketIO] = []

    def connector(namespace: str = "/", **options: Any) -> SocketIO:
        clients.append(SocketIO(server.url, namespace, **options))
        return clients[-1]

    yield connector
    for client in clients:
        client.close()
