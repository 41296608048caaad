"""gunicorn's settings about workers and their sockets, with ours and with gunicorn's own."""

import contextlib
import re
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from nti.appserver.testing.process import WORKER_CLASS, GunicornProcess, wait_until

from .client import Client, connect, slow_reader
from .conftest import ROOT
from .plain import TEXT

Start = Callable[..., GunicornProcess]


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[Start]:
    """Starts servers of tests/http/plain.py."""
    with ExitStack() as stack:

        def start(*options: str, **named: Any) -> GunicornProcess:
            made = GunicornProcess(
                "tests.http.plain:app", "--pythonpath", str(ROOT),
                "-c", str(ROOT / "tests/http/plain.py"), *options, cwd=tmp_path, **named,
            )  # fmt: skip
            return stack.enter_context(made).wait_until_serving()

        yield start


@pytest.mark.parametrize("worker", [WORKER_CLASS, "gevent"])
def test_max_requests_with_jitter(plain: Start, worker: str) -> None:
    """A worker ends after so many requests, and says so; the last one's connection ends, too."""
    server = plain("--max-requests", "5", "--max-requests-jitter", "3", worker=worker)
    answered = 1  # the one that found it serving
    with connect(server) as client:
        while client.ask("/echo").headers["connection"] == "keep-alive":
            answered += 1
            assert answered < 9
        assert client.ended()
    assert 5 <= answered + 1 <= 8
    wait_until(lambda: server.output().count("Booting worker") == 2, "another worker comes")
    assert "Autorestarting worker after current request" in server.output()
    with connect(server) as client:
        assert client.ask("/echo").status == 200


@pytest.mark.parametrize("shared", [True, False])
def test_every_listener_of_every_worker(plain: Start, tmp_path: Path, shared: bool) -> None:
    """Sockets that the workers share, or with reuse_port one for each (there gunicorn has no unix
    sockets)."""
    options = ("-b", "[::1]:0", "-b", "unix:http.sock") if shared else ("--reuse-port",)
    server = plain("--workers", "2", *options)
    addresses: list[tuple[str, int] | str] = [("127.0.0.1", server.port)]
    if shared:
        addresses.append(str(tmp_path / "http.sock"))
        assert re.search(r"http://\[::1\]:\d+", server.output())
    for address in addresses:
        for _ in range(10):
            with Client(address) as client:
                assert client.ask("/echo", method="POST", body=b"here").body == b"here"


@pytest.mark.parametrize("worker", [WORKER_CLASS, "gevent"])
def test_graceful_timeout_ends_what_does_not_end(plain: Start, worker: str) -> None:
    server = plain("--graceful-timeout", "1", worker=worker)
    with connect(server) as client:
        client.send(b"GET /sleeps HTTP/1.1\r\nHost: a\r\n\r\n")
        server.wait_for_output("asleep")
        began = time.monotonic()
        server.send_signal(signal.SIGTERM)
        assert client.ended()
        assert server.wait() == 0
    assert time.monotonic() - began < 20, "the request would have taken a minute"


def test_keepalive(plain: Start) -> None:
    """An idle connection ends when its time is over; without keepalive each ends at once."""
    server = plain("--keep-alive", "1")
    with connect(server) as client:
        began = time.monotonic()
        assert client.ask("/echo").headers["connection"] == "keep-alive"
        assert client.ended()
        assert time.monotonic() - began > 0.9
    server = plain("--keep-alive", "0")
    with connect(server) as client:
        assert client.ask("/echo").headers["connection"] == "close"
        assert client.ended()


@pytest.mark.parametrize("worker", [WORKER_CLASS, "gevent"])
def test_uwsgi_protocol(plain: Start, worker: str, tmp_path: Path) -> None:
    """From a unix socket, as nginx's uwsgi_pass sends it: a response without HTTP's framing."""
    variables = {
        "REQUEST_METHOD": "POST", "REQUEST_URI": "/echo", "PATH_INFO": "/echo", "QUERY_STRING": "",
        "SERVER_PROTOCOL": "HTTP/1.1", "CONTENT_LENGTH": "4", "HTTP_HOST": "a",
    }  # fmt: skip
    packet = b"".join(
        len(text).to_bytes(2, "little") + text.encode() for it in variables.items() for text in it
    )
    packet = b"\0" + len(packet).to_bytes(2, "little") + b"\0" + packet + b"body"
    server = GunicornProcess(
        "tests.http.plain:app", "--pythonpath", str(ROOT), "-c", str(ROOT / "tests/http/plain.py"),
        "--protocol", "uwsgi", "-b", "unix:uwsgi.sock", worker=worker, cwd=tmp_path,
    )  # fmt: skip
    with server, socket.socket(socket.AF_UNIX) as sock:
        server.wait_for_output("Booting worker")
        sock.settimeout(30)
        sock.connect(str(tmp_path / "uwsgi.sock"))
        for cut in (3, 20, len(packet)):
            sock.sendall(packet[:cut])
            sock.sendall(packet[cut:])
            answer = b""
            while not answer.endswith(b"\r\n\r\nbody"):
                piece = sock.recv(4096)
                assert piece, answer
                answer += piece
            assert answer.startswith(b"HTTP/1.1 200 OK\r\n")


def test_partial_writes_and_resets(plain: Start) -> None:
    """Who reads slowly gets every byte; who resets, or ends too early, harms nobody."""
    server = plain("--keep-alive", "20")
    before = len(server.output())
    with slow_reader(server) as slow:
        for path in ("/large", "/file", "/large"):
            slow.send(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        wait_until(lambda: slow.socket.recv(1, socket.MSG_PEEK), "it has begun to answer")
        for _ in range(5):
            with slow_reader(server) as gone:
                gone.send(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
                gone.socket.recv(1000)
                linger = struct.pack("ii", 1, 0)
                gone.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        with connect(server) as half:
            half.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab")
            half.socket.shutdown(socket.SHUT_WR)
            assert half.answer().body == b"ab"
            assert half.ended()
        bodies = [slow.answer().body for _ in range(3)]
    assert bodies == [TEXT * 20, TEXT[10:], TEXT * 20]
    assert "Traceback" not in server.output()[before:]


def test_who_takes_nothing_is_given_up(plain: Start) -> None:
    server = plain(environ={"NTI_APPSERVER_SEND_TIMEOUT": "0.5"})
    with slow_reader(server) as slow:
        slow.send(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
        got = 0
        wait_until(lambda: "post /large" in server.output(), "the response is given up")
        with contextlib.suppress(ConnectionError):
            while piece := slow.socket.recv(1 << 20):
                got += len(piece)
        assert 0 < got < len(TEXT) * 20


@pytest.mark.parametrize("path", ["/large", "/file"])
def test_who_takes_too_little_is_given_up(plain: Start, path: str) -> None:
    """Some, again and again, but not as much as body_rate asks for."""
    settings = {"NTI_APPSERVER_SEND_TIMEOUT": "2", "NTI_APPSERVER_BODY_RATE": "1m"}
    server = plain("--log-level", "debug", environ=settings)
    with slow_reader(server) as slow:
        for asked in ("/narrow", path):
            slow.send(f"GET {asked} HTTP/1.1\r\nHost: a\r\n\r\n".encode())

        def given_up() -> bool:
            with contextlib.suppress(ConnectionError):
                slow.socket.recv(1000)
            return "Connection lost: TimeoutError" in server.output()

        wait_until(given_up, "the response is given up", every=0.1)
    with connect(server) as client:
        assert client.ask("/echo").status == 200
