"""Requests over real sockets, served by our worker."""

import contextlib
import json
import socket
import ssl
import time
from pathlib import Path

import pytest

from nti.appserver.testing.process import GunicornProcess
from nti.appserver.testing.websocket import WebSocket

from .client import Client, connect, rest
from .conftest import Starter

CHUNKED = b"3\r\nabc\r\n4;ext=1\r\ndefg\r\n0\r\n\r\n"


def test_keep_alive(server: GunicornProcess) -> None:
    with connect(server) as client:
        for body in (b"a", b"", b"b" * 200_000, b"c"):
            answer = client.ask("/echo", method="POST", body=body)
            assert (answer.status, answer.body) == (200, body)
            assert answer.headers["connection"] == "keep-alive"
        assert client.ask("/echo", "Connection: close").headers["connection"] == "close"
        assert client.ended()


def test_http_1_0_ends_unless_asked_to_keep(server: GunicornProcess) -> None:
    with connect(server) as client:
        client.send(b"GET /echo HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        assert client.answer().headers["connection"] == "keep-alive"
        client.send(b"GET /echo HTTP/1.0\r\n\r\n")
        assert client.answer().headers["connection"] == "close"
        assert client.ended()


def test_pipelining_keeps_the_order(server: GunicornProcess) -> None:
    posts = [
        b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%d" % (len(str(n)), n)
        for n in range(50)
    ]
    chunked = b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKED
    with connect(server) as client:
        client.send(b"".join([*posts[:25], chunked, *posts[25:]]))
        bodies = [client.answer().body for _ in range(51)]
        assert bodies.pop(25) == b"abcdefg"
        assert bodies == [b"%d" % n for n in range(50)]


@pytest.mark.parametrize("step", [1, 7])
def test_a_request_may_come_in_pieces(server: GunicornProcess, step: int) -> None:
    request = b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
    with connect(server) as client:
        for start in range(0, len(request), step):
            client.send(request[start : start + step])
        assert client.answer().body == b"abc"
        assert client.ask("/echo").status == 200


@pytest.mark.parametrize(("method", "code"), [("HEAD", "200"), ("GET", "204"), ("GET", "304")])
def test_responses_without_a_body(server: GunicornProcess, method: str, code: str) -> None:
    with connect(server) as client:
        answer = client.ask(f"/status?{code}", method=method)
        assert answer.status == int(code)
        assert answer.headers["x-code"] == code
        if code == "204":
            assert not {"content-length", "transfer-encoding"} & set(answer.headers)
        # Had a body been sent, it would be read as the next response.
        assert client.ask("/echo", method="POST", body=b"next").body == b"next"


def test_chunked_both_ways(server: GunicornProcess) -> None:
    with connect(server) as client:
        for _ in range(2):
            client.send(b"POST /streamed HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
            client.send(CHUNKED[:5])
            client.send(CHUNKED[5:])
            answer = client.answer()
            assert answer.headers["transfer-encoding"] == "chunked"
            assert answer.body == b"onetwoabcdefg"
        client.send(b"GET /streamed HTTP/1.0\r\n\r\n")
        answer = client.answer()
        assert "transfer-encoding" not in answer.headers
        assert answer.body == b"onetwo"


def test_expect_100_continue(server: GunicornProcess) -> None:
    with connect(server) as client:
        client.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n")
        client.send(b"Expect: 100-continue\r\n\r\n")
        assert client.answer().status == 100
        client.send(b"abc")
        assert client.answer().body == b"abc"
        assert client.ask("/echo").status == 200


def test_a_body_that_was_ignored_is_not_the_next_request(server: GunicornProcess) -> None:
    body = b"GET /fails HTTP/1.1\r\nHost: a\r\n\r\n" * 10_000
    with connect(server) as client:
        answer = client.ask("/ignores_body", method="POST", body=body)
        assert answer.body == b"ok"
        assert client.ask("/echo", method="POST", body=b"next").body == b"next"


def test_a_chunked_body_that_was_broken_off_is_the_last(server: GunicornProcess) -> None:
    """The rest of it is no request; gunicorn's parser has lost its place."""
    with connect(server) as client:
        head = b"POST /impatient HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        client.send(head + b"60\r\n" + b"x" * 10)
        assert client.answer().body == b"ok"
        with contextlib.suppress(ConnectionError):
            client.send(b"GET /echo HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b"HTTP/1.1" not in rest(client)
    with connect(server) as client:
        length = b"POST /impatient?again HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n"
        client.send(length + b"ab")
        time.sleep(0.3)
        client.send(b"cd")
        assert client.answer().body == b"abcd"
        assert client.ask("/echo").status == 200


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"GET / HTTP/3.3\r\n\r\n", 400),
        (b"GET /%s HTTP/1.1\r\n\r\n" % (b"x" * 5000), 414),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: strange\r\n\r\n", 501),
        (b"nonsense\r\n", 400),
    ],
)
def test_faults_are_answered_and_end_the_connection(
    server: GunicornProcess, request_: bytes, status: int
) -> None:
    with connect(server) as client:
        client.send(request_)
        assert client.answer().status == status
        assert client.ended()


def test_nothing_of_a_failed_response_leaks(server: GunicornProcess) -> None:
    with connect(server) as client:
        answer = client.ask("/fails")
        assert answer.status == 500
        assert "x-leaked" not in answer.headers
    with connect(server) as client:
        client.send(b"GET /fails_late HTTP/1.1\r\nHost: a\r\n\r\n" * 2)
        client.socket.settimeout(20)
        raw = b""
        while data := client.socket.recv(4096):
            raw += data
    assert raw.count(b"HTTP/1.1") == 1, "another response within one that had begun"
    assert not raw.endswith(b"0\r\n\r\n"), "a response that failed looks complete"
    with connect(server) as client:
        assert "x-leaked" not in client.ask("/echo").headers


def test_what_is_no_exception_ends_the_connection_too(server: GunicornProcess) -> None:
    """gevent.Timeout derives from BaseException, as asyncio's CancelledError does."""
    with connect(server) as client:
        assert client.ask("/times_out?0").status == 500
        assert client.ended()
    for pieces in (1, 3):
        with connect(server) as client:
            client.send(b"GET /times_out?%d HTTP/1.1\r\nHost: a\r\n\r\n" % pieces)
            raw = rest(client)
        assert raw.count(b"piece") == pieces
        assert not raw.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("kind", ["list", "generator", "file", "empty-file"])
def test_a_body_that_is_too_short_ends_the_connection(server: GunicornProcess, kind: str) -> None:
    """The client would take the next response for the rest of it."""
    with connect(server) as client:
        client.send(b"GET /short?%s HTTP/1.1\r\nHost: a\r\n\r\n" % kind.encode() * 2)
        raw = rest(client)
    assert raw.count(b"HTTP/1.1 200") == 1
    assert raw.endswith(b"\r\n\r\n" if kind == "empty-file" else b"\r\n\r\nshort")
    size = 0 if kind == "empty-file" else 5
    server.wait_for_output(f"GET /short: the body has {size} bytes, but its Content-Length is 20")
    with connect(server) as client:
        assert client.ask(f"/short?{kind}", method="HEAD").headers["connection"] == "keep-alive"
        assert client.ask("/echo").status == 200


@pytest.mark.parametrize("query", ["", "?length"])
def test_a_file_that_is_cut_while_it_is_sent_ends_the_connection(
    server: GunicornProcess, query: str
) -> None:
    """As with any body that is too short; gunicorn sends the next response for its rest."""
    with connect(server) as client, connect(server) as other:
        ask = b"GET /sparse%s HTTP/1.1\r\nHost: a\r\n\r\n" % query.encode()
        client.send(ask + b"GET /echo HTTP/1.1\r\nHost: a\r\n\r\n")
        raw = client.socket.recv(1000)
        assert other.ask("/cut").status == 200
        while data := client.socket.recv(1 << 20):
            raw = raw[-1000:] + data
    assert b"HTTP/1.1 200" not in raw[1000:]
    assert not raw.endswith(b"0\r\n\r\n")
    said = "Content-Length is" if query else "length was"
    server.wait_for_output(f"but its {said} {64 << 20}; closing the connection")


def test_an_empty_file_ends_once(server: GunicornProcess) -> None:
    with connect(server) as client:
        assert client.ask("/empty").body == b""
        assert client.ask("/echo", method="POST", body=b"next").body == b"next"


def test_take_over(server: GunicornProcess) -> None:
    with WebSocket(f"ws://127.0.0.1:{server.port}/websocket") as ws:
        for message in ("text", b"bytes", "x" * 300_000):
            ws.send(message)
            assert ws.receive() == message
        assert ws.close().code == 1000


def test_unix_socket(server: GunicornProcess) -> None:
    with Client(str(server.cwd / "http.sock")) as client:
        for fields in ((), ("Transfer-Encoding: chunked",)):
            client.send("\r\n".join(["POST /describe HTTP/1.1", "Host: h:81", *fields]).encode())
            client.send(b"\r\n\r\n" + (b"0\r\n\r\n" if fields else b""))
            said = json.loads(client.answer().body)
            assert (said["SERVER_NAME"], said["SERVER_PORT"]) == ("h", "81")
            assert said["REMOTE_ADDR"] == said["peer"] == ""
        client.send(b"GET /describe HTTP/1.1\r\nHost: h\r\nX-Forwarded-Proto: https\r\n\r\n")
        assert json.loads(client.answer().body)["SERVER_PORT"] == "443"
        client.send(b"GET /describe HTTP/1.1\r\nX-Forwarded-For: 198.51.100.7\r\n\r\n")
        said = json.loads(client.answer().body)
        assert said["SERVER_NAME"].endswith("http.sock")
        assert (said["SERVER_PORT"], said["REMOTE_ADDR"]) == ("", "198.51.100.7")


def test_unix_peer_with_a_name(server: GunicornProcess, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(20)
        peer.bind(str(tmp_path / "peer"))
        peer.connect(str(server.cwd / "http.sock"))
        peer.sendall(b"GET /describe HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        with peer.makefile("rb") as file:
            said = json.loads(file.read().partition(b"\r\n\r\n")[2])
    assert said["REMOTE_ADDR"] == str(tmp_path / "peer")
    assert said["peer"] == ""


def test_tls(start: Starter, certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    tls = start("--certfile", str(cert), "--keyfile", str(key))
    tls.wait_for_output("Serving https")
    context = ssl.create_default_context(cafile=str(cert))
    body = bytes(range(256)) * 4096
    with connect(tls, context) as client:
        assert json.loads(client.ask("/describe").body)["wsgi.url_scheme"] == "https"
        assert client.ask("/echo", method="POST", body=body).body == body
        assert client.ask("/echo").body == b""
        client.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        client.send(CHUNKED)
        assert client.answer().body == b"abcdefg"
    with connect(tls) as plain:
        plain.send(b"GET /echo HTTP/1.1\r\nHost: a\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            assert b"HTTP" not in plain.socket.recv(100), "answered without TLS"
