"""The same bytes to our worker and to gunicorn's own, on real sockets: the same bytes come back.

So do the hooks' lines, the access log's and the counts that statsd is sent.
"""

import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from nti.appserver.testing.process import (
    PATIENCE_SECONDS,
    WORKER_CLASS,
    GunicornProcess,
    wait_until,
)

from .bytes_sent import NEXT, STREAMS, ask
from .conftest import ROOT

#: Every atom but those of time, process and port.
FORMAT = (
    "(access) %(h)s %(l)s %(u)s %(r)s %(s)s %(b)s %(B)s %(m)s %(U)s %(q)s %(H)s %(f)s %(a)s "
    "%({host}i)s %({X-None}i)s %({content-length}o)s %({x-twice}o)s %({request_method}e)s "
    "%({wsgi.url_scheme}e)s"
)


class Server(GunicornProcess):
    """A worker of one of the two kinds, and the socket that gets its statsd counts."""

    def __init__(self, worker: str, folder: Path) -> None:
        self.counts = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.counts.bind(("127.0.0.1", 0))
        self.counts.settimeout(0.2)
        statsd = f"127.0.0.1:{self.counts.getsockname()[1]}"
        super().__init__(
            "tests.http.plain:app", "--pythonpath", str(ROOT), "-c",
            str(ROOT / "tests/http/plain.py"),
            "--access-logfile", "-", "--access-logformat", FORMAT, "--statsd-host", statsd,
            "--keep-alive", "5", "--forwarder-headers", "SCRIPT_NAME",
            worker=worker, cwd=folder,
        )  # fmt: skip

    def exchange(self, data: bytes) -> bytes:
        """Everything that comes back until the end, without dates."""
        received = b""
        with socket.create_connection(("127.0.0.1", self.port), PATIENCE_SECONDS) as sock:
            sock.sendall(data)
            try:
                sock.shutdown(socket.SHUT_WR)
                while piece := sock.recv(65536):
                    received += piece
            except ConnectionError:
                received += b"(reset)"
        return re.sub(rb"\r\nDate: [^\r]*", b"", received)

    def lines(self, start: int) -> list[str]:
        """What the hooks and the access log have written since then."""
        wrote = self.output()[start:].splitlines()
        return [
            line[line.index(mark) :]
            for line in wrote
            for mark in ("] pre ", "] post ", "(access) ")
            if mark in line
        ]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Server]]:
    """Ours and gunicorn's own."""
    with ExitStack() as stack:
        made = [
            Server(worker, tmp_path_factory.mktemp("server")) for worker in (WORKER_CLASS, "gevent")
        ]
        for server in made:
            stack.enter_context(server.counts)
            stack.enter_context(server)
        for server in made:
            server.wait_until_serving().wait_for_output("post /_ops/ping")
        yield made[0], made[1]


@pytest.mark.parametrize("name", STREAMS)
def test_the_same_bytes_come_back(pair: tuple[Server, Server], name: str) -> None:
    data = STREAMS[name].encode("latin-1")
    starts = [len(server.output()) for server in pair]
    ours, theirs = (server.exchange(data) for server in pair)
    assert ours == theirs
    if name == "large":
        assert len(ours) > 5_000_000
    answered = len(re.findall(rb"HTTP/1.. 200", ours))
    logs: list[list[str]] = []

    def same() -> bool:
        """Both, and a line for each request: neither may have written any yet."""
        logs[:] = [server.lines(start) for server, start in zip(pair, starts, strict=True)]
        told = sum(" 200 " in line for line in logs[0])
        return logs[0] == logs[1] and told >= answered

    try:
        wait_until(same, "the same lines are logged")
    except AssertionError:
        assert logs[0] == logs[1]
        raise


def test_errors_of_an_application_are_answered(pair: tuple[Server, Server]) -> None:
    """Unlike gunicorn, which takes any OSError for the peer's end and closes without a word."""
    for name in ("os", "time"):
        ours, theirs = (server.exchange(ask(f"/raises?{name}").encode()) for server in pair)
        assert ours.startswith(b"HTTP/1.1 500 "), ours
        assert theirs == b""
    assert "FileNotFoundError: on purpose" in pair[0].output()


def test_a_short_body_is_the_last(pair: tuple[Server, Server]) -> None:
    """Unlike gunicorn, which sends the next response where the client waits for the rest."""
    ours, theirs = (server.exchange((ask("/short") + NEXT).encode()) for server in pair)
    assert ours.endswith(b"less than was said")
    assert theirs.startswith(ours)
    assert theirs.count(b"HTTP/1.1 200") == 2


def test_a_second_start_replaces_the_first(pair: tuple[Server, Server]) -> None:
    """Unlike gunicorn, which adds to it: there the Content-Length of another body stays."""
    ours, theirs = (server.exchange((ask("/another") + NEXT).encode()) for server in pair)
    assert ours.startswith(b"HTTP/1.1 503 Later")
    assert b"X-Second: 1" in ours
    assert b"X-First" not in ours
    assert b"later" in ours
    assert ours.count(b"HTTP/1.1 200") == 1
    assert b"Content-Length: 77" in theirs


def test_statsd_counts_the_same(pair: tuple[Server, Server]) -> None:
    for server in pair:
        _counts(server)
        server.exchange(NEXT.encode() * 3)
    ours, theirs = (_counts(server) for server in pair)
    assert ours == theirs
    assert ours.count("gunicorn.requests") == 3


def _counts(server: Server) -> list[str]:
    """The names of what statsd was sent about requests, in order."""
    found = []
    try:
        while True:
            name = server.counts.recv(4096).decode().partition(":")[0]
            if name.startswith("gunicorn.request"):
                found.append(name)
    except TimeoutError:
        return found
