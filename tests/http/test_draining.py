"""What becomes of connections when the worker is told to end."""

import os
import re
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


def answering(server: GunicornProcess) -> int:
    """A worker that serves."""
    with connect(server) as client:
        return int(client.ask("/worker").body)


#: More than a worker accepts in one turn of its loop.
WAITING = 200


@pytest.mark.parametrize(
    ("options", "bound"),
    [("", 1000), ("--workers=2", 1000), ("--workers=2 --reuse-port", 1000), ("", 20)],
    ids=["one worker", "two workers", "reuse_port", "more than may be open"],
)
def test_what_waits_in_the_backlog_is_answered(start: Starter, options: str, bound: int) -> None:
    """The kernel has made these connections, and a worker that just ended would reset them."""
    server = start("--graceful-timeout", "20", *options.split(), connections=str(bound))
    server.wait_until_serving()
    count = 2 if "workers" in options else 1
    wait_until(lambda: server.output().count("Booting worker") == count, "all are there")
    pids = [int(pid) for pid in re.findall(r"Booting worker with pid: (\d+)", server.output())]
    if "reuse-port" in options:
        seen: set[int] = set()  # each has a backlog, from before it serves
        wait_until(lambda: seen.add(answering(server)) or len(seen) == len(pids), "all serve")
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    with ExitStack() as stack:
        clients = [stack.enter_context(connect(server)) for _ in range(WAITING)]
        for number, client in enumerate(clients):
            body = b"%d" % number
            client.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (
                len(body), body,
            ))  # fmt: skip
        server.send_signal(signal.SIGTERM)
        server.wait_for_output("Handling signal: term")
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        answers = [client.answer() for client in clients]
    assert [answer.body for answer in answers] == [b"%d" % number for number in range(WAITING)]
    assert server.wait() == 0
