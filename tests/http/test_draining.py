"""What becomes of connections when the worker is told to end."""

import signal
import time
from contextlib import ExitStack

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
    """Others take over: WebSockets are told to come back, and new requests are served."""
    with connect(drained) as idle, WebSocket(f"ws://127.0.0.1:{drained.port}/websocket") as ws:
        ws.send("hi")
        assert ws.receive() == "hi"
        assert idle.ask("/echo").status == 200
        drained.send_signal(signal.SIGHUP)
        assert ws.wait_for_close().code == 1012
        assert idle.ended()
    with connect(drained) as client:
        assert client.ask("/echo").status == 200


@pytest.fixture(scope="module")
def limited(start: Starter) -> GunicornProcess:
    server = start("--worker-connections", "2", head_timeout="0.5", body_timeout="0.5")
    return server.wait_until_serving()


def test_refused_past_the_limit_and_health_answered(limited: GunicornProcess) -> None:
    with connect(limited) as first, connect(limited) as second:
        for client in (first, second):
            client.send(b"GET /waits HTTP/1.1\r\nHost: a\r\n\r\n")
        wait_until(lambda: limited.output().count("a request waits") == 2, "both slots are taken")
        for path in ("/echo", "/_ops/pingpong"):
            with connect(limited) as client:
                answer = client.ask(path)
                assert answer.status == 503
                assert int(answer.headers["retry-after"]) > 0
                assert client.ended()
        with connect(limited) as client:
            assert client.ask("/_ops/ping").status == 200
            assert client.ask("/_ops/ready").status in (200, 503)
        (limited.cwd / "release").touch()
        assert first.answer().body == second.answer().body == b"ended"
        assert first.ask("/echo").status == 200


def test_slow_heads_and_bodies_have_deadlines(limited: GunicornProcess) -> None:
    with ExitStack() as stack:
        # Far more than there are slots: a partial head takes none.
        slow = [stack.enter_context(connect(limited)) for _ in range(30)]
        for client in slow:
            client.send(b"GET /echo HTTP/1.1\r\nHost: a\r\n")
        with connect(limited) as client:
            assert client.ask("/echo").status == 200
        assert all(client.ended() for client in slow)
    with connect(limited) as client:
        client.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabc")
        assert client.answer().status == 408
        assert client.ended()
