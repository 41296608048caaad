"""Streamed bodies: pieces made at once share segments, and none is held back."""

import fcntl
import socket
import ssl
import struct
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gevent
import pytest

from nti.appserver.http.cork import Cork
from nti.appserver.testing.process import GunicornProcess

from .client import Client, connect
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
        self.listener = SimpleNamespace(loop=gevent.get_hub().loop)

    def sendall(self, data: bytes, flags: int = 0) -> None:
        assert self.sock.send(data, flags) == len(data)


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair()
    yield made
    made.client.close()
    made.sock.close()


def test_what_is_kept_leaves_at_the_next_switch(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nti.appserver.http.cork.QUICK_SECONDS", 60)
    cork = Cork(pair)
    for _ in range(2):
        cork.send(b"some")
        cork.send(b"more")
        assert kept(pair.sock) == 8  # unless this process stood still for 200 ms
        gevent.sleep(0)
        assert kept(pair.sock) == 0
        assert pair.client.recv(100) == b"somemore"


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


def test_nothing_is_pushed_once_the_connection_is_closed(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nti.appserver.http.cork.QUICK_SECONDS", 60)
    Cork(pair).send(b"the end")
    pair.sock.close()
    gevent.sleep(0)
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
        assert client.socket.recv(1000) == b" at last"
