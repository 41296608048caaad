"""What becomes of connections when the worker is told to end."""

import signal
import time

import pytest

from nti.appserver.testing.process import GunicornProcess, wait_until
from nti.appserver.testing.websocket import WebSocket

from .client import connect
from .conftest import Starter


@pytest.fixture
def drained(start: Starter) -> GunicornProcess:
    return start("--keep-alive", "60", "--graceful-timeout", "20").wait_until_serving()


def test_term(drained: GunicornProcess) -> None:
    """Idle connections end at once, requests in flight are answered, WebSockets are told."""
    began = time.monotonic()
    with (
        connect(drained) as idle,
        connect(drained) as fresh,
        connect(drained) as busy,
        WebSocket(f"ws://127.0.0.1:{drained.port}/websocket") as ws,
    ):
        ws.send("hi")
        assert ws.receive() == "hi"
        assert idle.ask("/echo").headers["connection"] == "keep-alive"
        busy.send(b"GET /lasts HTTP/1.1\r\nHost: a\r\n\r\n")
        drained.wait_for_output("a request lasts")
        drained.send_signal(signal.SIGTERM)
        assert ws.wait_for_close().code == 1001
        assert idle.ended()
        assert fresh.ended()
        answer = busy.answer()
        assert (answer.body, answer.headers["connection"]) == (b"ended", "close")
        assert busy.ended()
    assert drained.wait() == 0
    assert time.monotonic() - began < 20, "something was waited for until graceful_timeout"
    assert "graceful timeout" not in drained.output()


def test_hup(drained: GunicornProcess) -> None:
    """Others take over: WebSockets are told to come back, idle connections go to the new worker."""
    with connect(drained) as idle, WebSocket(f"ws://127.0.0.1:{drained.port}/websocket") as ws:
        ws.send("hi")
        assert ws.receive() == "hi"
        assert idle.ask("/echo").status == 200
        drained.send_signal(signal.SIGHUP)
        assert ws.wait_for_close().code == 1012
        wait_until(lambda: "Worker exiting" in drained.output(), "the old worker has ended")
        assert idle.ask("/echo", method="POST", body=b"a proxy's").body == b"a proxy's"
        assert idle.ask("/echo").status == 200
    with connect(drained) as client:
        assert client.ask("/echo").status == 200
