"""What becomes of WebSockets when the worker ends."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from nti.appserver.testing.process import GunicornProcess, wait_until
from nti.appserver.testing.websocket import WebSocket

from .conftest import ROOT, STOCK_WORKER
from .test_serving import get


@pytest.fixture
def lender(tmp_path: Path) -> Iterator[GunicornProcess]:
    with GunicornProcess(
        "tests.websocket.apps:lent", "--pythonpath", str(ROOT), worker=STOCK_WORKER, cwd=tmp_path
    ) as process:
        yield process.wait_until_serving()


@pytest.mark.parametrize(("reason", "code"), [("restart", 1012), ("shutdown", 1001)])
def test_the_close_code_says_whether_to_come_back(
    lender: GunicornProcess, reason: str, code: int
) -> None:
    url = f"ws://127.0.0.1:{lender.port}/echo"
    with WebSocket(url) as idle, WebSocket(url) as busy:
        busy.send("hi")
        assert busy.receive() == "hi"
        wait_until(lambda: get(lender, "/lent").startswith("2 "), "both are told of a drain")
        get(lender, f"/drain?{reason}")
        assert idle.wait_for_close().code == code
        assert busy.wait_for_close().code == code
    wait_until(lambda: get(lender, "/lent").startswith("0 "), "nothing is held any more")


def test_the_server_is_told_what_was_sent(lender: GunicornProcess) -> None:
    with WebSocket(f"ws://127.0.0.1:{lender.port}/echo") as ws:
        ws.send("x" * 1000)
        ws.receive()
        ws.close()
    wait_until(lambda: "101" in get(lender, "/lent"), "the connection was given back")
    sent = int(get(lender, "/lent").rstrip(")").split()[-1])
    assert 1000 < sent < 1400
