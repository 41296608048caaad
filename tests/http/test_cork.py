"""Streamed bodies: pieces made at once share segments, and none is held back."""

import fcntl
import socket
import ssl
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from time import monotonic
from types import SimpleNamespace
from typing import Any

import gevent
import pytest

from nti.appserver.http.connection import MORE, WRITE
from nti.appserver.http.cork import QUICK_SECONDS, Cork, Pusher
from nti.appserver.testing.process import GunicornProcess

from .client import Client, connect, rest
from .conftest import Starter

TICKS = b"".join(b"%1000d" % number for number in range(64))

#: ioctl(2), linux/sockios.h: bytes that the kernel has not sent yet.
SIOCOUTQNSD = 0x894B

#: struct tcp_info, linux/tcp.h: where tcpi_data_segs_in is, and the size up to its end.
DATA_SEGMENTS_IN, SIZE = 152, 156


def kept(sock: socket.socket) -> int:
    """Bytes that the kernel keeps back."""
    answer = fcntl.ioctl(sock, SIOCOUTQNSD, b"\0" * 4)
    return int(struct.unpack("i", answer)[0])


def segments(sock: socket.socket) -> int:
    """Segments with data that have come."""
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, SIZE)
    return int(struct.unpack_from("I", info, DATA_SEGMENTS_IN)[0])


class Pair:
    """Both ends of a TCP connection, and what a cork uses of a `Connection`."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.client = socket.create_connection(listener.getsockname())
            self.sock = listener.accept()[0]
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        pusher = Pusher(gevent.get_hub().loop)
        self.listener = SimpleNamespace(server=SimpleNamespace(pusher=pusher))
        #: Whether each piece was sent with word of more.
        self.more: list[bool] = []

    def sendall(self, data: bytes, flags: int = 0) -> None:
        self.more.append(flags == MORE)
        assert self.sock.send(data, flags) == len(data)


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair()
    yield made
    made.client.close()
    made.sock.close()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every piece was made quickly."""
    monkeypatch.setattr("nti.appserver.http.cork.QUICK_SECONDS", 60)


@pytest.mark.usefixtures("patient")
def test_what_is_kept_leaves_at_the_next_switch(pair: Pair) -> None:
    deadline = monotonic() + 20
    while monotonic() < deadline:
        cork, began = Cork(pair), monotonic()
        cork.send(b"some")
        cork.send(b"more")
        before = kept(pair.sock)
        stalled = monotonic() - began > 0.1  # the kernel itself sends after 0.2
        gevent.sleep(0)
        assert kept(pair.sock) == 0
        assert pair.client.recv(100) == b"somemore"
        if not stalled:
            assert before == 8
            return
    pytest.fail("this process stood still all the time")


def test_what_is_kept_leaves_before_others_have_their_turn(pair: Pair) -> None:
    """Of those that are ready in the same turn of the loop."""
    loop, order, watchers = gevent.get_hub().loop, [], []
    pusher = pair.listener.server.pusher
    cork: Any = SimpleNamespace(queued=True, kept=1, push=lambda: order.append("push"))
    with ExitStack() as stack:
        address = stack.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()
        for _ in range(4):
            sock = stack.enter_context(socket.create_connection(address))
            watchers.append(loop.io(sock.fileno(), WRITE))

        def request(watcher: Any) -> None:
            watcher.stop()
            order.append("request")
            if len(order) == 1:
                pusher.add(cork)

        for watcher in watchers:
            watcher.start(request, watcher)
        deadline = monotonic() + 20
        while len(order) < 5 and monotonic() < deadline:
            gevent.sleep(0.01)
        for watcher in watchers:
            watcher.stop()
    assert order == ["request", "push", "request", "request", "request"]


@pytest.mark.usefixtures("patient")
def test_a_stream_that_switches_after_each_piece_is_left_alone(pair: Pair) -> None:
    cork = Cork(pair)
    for _ in range(200):
        cork.send(b"piece")
        gevent.sleep(0)
    assert pair.more[0]
    assert sum(pair.more) < 10


@pytest.mark.usefixtures("patient")
def test_a_stream_that_switches_now_and_then_is_not(pair: Pair) -> None:
    cork = Cork(pair)
    for number in range(200):
        cork.send(b"piece")
        if number % 10 == 9:
            gevent.sleep(0)
    assert all(pair.more)


def test_no_piece_is_kept_longer_than_a_moment(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """However quickly one follows the other; here nothing switches."""
    now = [0.0]
    monkeypatch.setattr("nti.appserver.http.cork.monotonic", lambda: now[0])
    cork = Cork(pair)
    for _ in range(9):
        now[0] += QUICK_SECONDS * 0.4
        cork.send(b"piece")
    assert pair.more == [True, True, False] * 3


def test_a_piece_that_was_long_in_the_making_leaves_at_once(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    cork = Cork(pair)
    monkeypatch.setattr("nti.appserver.http.cork.QUICK_SECONDS", 60)
    cork.send(b"quick ")
    monkeypatch.setattr("nti.appserver.http.cork.QUICK_SECONDS", 0)
    cork.send(b"slow")
    assert kept(pair.sock) == 0
    assert pair.client.recv(100) == b"quick slow"


@pytest.mark.usefixtures("patient")
def test_a_connection_that_is_closed_meanwhile_does_no_harm(pair: Pair) -> None:
    cork = Cork(pair)
    cork.send(b"the end")
    pair.sock.close()
    cork.push()
    assert pair.client.recv(100) == b"the end"
    assert pair.client.recv(100) == b""


@pytest.mark.parametrize("query", ["", "?length"])
def test_pieces_share_segments(server: GunicornProcess, query: str) -> None:
    with connect(server) as client:
        before = segments(client.socket)
        answer = client.ask(f"/ticks{query}")
        assert ("content-length" in answer.headers) == bool(query)
        assert answer.body == TICKS
        # One for each piece otherwise; some more than needed where the machine stood still.
        assert segments(client.socket) - before < 32


def test_pieces_of_http_1_0(server: GunicornProcess) -> None:
    with connect(server) as client:
        client.send(b"GET /ticks HTTP/1.0\r\n\r\n")
        assert client.answer().body == TICKS


@pytest.mark.parametrize("query", ["", "?length"])
def test_pieces_over_a_unix_socket(server: GunicornProcess, query: str) -> None:
    with Client(str(server.cwd / "http.sock")) as client:
        assert client.ask(f"/ticks{query}").body == TICKS
        assert client.ask("/echo").status == 200


def test_pieces_over_tls(start: Starter, certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    server = start("--certfile", str(cert), "--keyfile", str(key))
    server.wait_for_output("Serving https")
    context = ssl.create_default_context(cafile=str(cert))
    with connect(server, context) as client:
        assert client.ask("/ticks").body == TICKS
        assert client.ask("/echo").status == 200


def test_what_is_no_file_shares_segments(server: GunicornProcess) -> None:
    with connect(server) as client:
        before = segments(client.socket)
        assert client.ask("/wrapped").body == b"x" * 64_000
        assert segments(client.socket) - before < 32


def test_pieces_before_a_failure_come(server: GunicornProcess) -> None:
    """Although the connection is closed with a part of the request unread."""
    with connect(server) as client:
        fields = b"Content-Length: 300000\r\n\r\n"
        client.send(b"POST /fails_later HTTP/1.0\r\n" + fields + b"x" * 200_000)
        assert rest(client).endswith(b"onetwothree")


def test_pieces_before_a_close_come(server: GunicornProcess) -> None:
    """Although something has come that nobody has asked for."""
    with connect(server) as client:
        client.send(b"GET /pauses?switching HTTP/1.0\r\n\r\n")
        assert client.socket.recv(1)
        client.send(b"\r\n")
        (server.cwd / "release").touch()
        assert rest(client).endswith(b"at once at last")
        (server.cwd / "release").unlink()


@pytest.mark.parametrize("way", ["switching", "computing"])
def test_pieces_come_while_the_next_is_made(start: Starter, way: str) -> None:
    """At a switch by the hub, without one by the kernel."""
    server = start().wait_until_serving()
    with connect(server) as client:
        client.send(b"GET /pauses?%s HTTP/1.0\r\n\r\n" % way.encode())
        came = b""
        while not came.endswith(b"at once"):
            piece: Any = client.socket.recv(1000)
            assert piece
            came += piece
        (server.cwd / "release").touch()
        assert rest(client) == b" at last"
