"""TLS: every byte goes through it, in whatever pieces it comes. HTTP/2 where it is turned on."""

import json
import socket
import ssl
import struct
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import pytest

from nti.appserver.testing.process import WORKER_CLASS, GunicornProcess, wait_until

from .client import connect
from .conftest import ROOT, Starter
from .plain import TEXT


@pytest.fixture(scope="module")
def tls(start: Starter, certificate: tuple[Path, Path]) -> GunicornProcess:
    cert, key = certificate
    server = start(
        "--certfile", str(cert), "--keyfile", str(key), "--keep-alive", "20", handshake_timeout="3"
    )
    server.wait_for_output("Serving https")
    return server


@pytest.fixture
def context(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate[0]))


class Records:
    """A TLS client that decides what goes into a record, and a record into a segment."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), 20)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname="localhost")
        self._until(self._tls.do_handshake)
        self.socket.sendall(self._out.read())

    def record(self, data: bytes) -> bytes:
        self._tls.write(data)
        return self._out.read()

    def read(self, count: int) -> bytes:
        """So many bytes of what comes."""
        got = b""
        while left := count - len(got):
            got += self._until(partial(self._tls.read, left))
        return got

    def _until(self, step):  # type: ignore[no-untyped-def]
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                self.socket.sendall(self._out.read())
                data = self.socket.recv(65536)
                assert data, "the server has closed"
                self._in.write(data)


def request(body: bytes) -> bytes:
    return b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body)


def echoes(client: Records, *bodies: bytes) -> None:
    for body in bodies:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += client.read(1)
        assert head.startswith(b"HTTP/1.1 200 OK")
        assert client.read(len(body)) == body


def test_a_wake_up_may_carry_no_data(tls: GunicornProcess, context: ssl.SSLContext) -> None:
    """The bytes of a record one by one; nothing can be read of it before the last."""
    client = Records(tls.port, context)
    with client.socket:
        for record in (client.record(request(b"abc")), client.record(b"abc")):
            for n in range(len(record)):
                client.socket.sendall(record[n : n + 1])
        echoes(client, b"abc")


def test_so_may_one_when_an_application_has_asked_for_the_socket(
    start: Starter, certificate: tuple[Path, Path], context: ssl.SSLContext
) -> None:
    """A socket that applications may wait for is none for the hub, and has no deadlines."""
    cert, key = certificate
    server = start("--certfile", str(cert), "--keyfile", str(key), body_timeout="0.5")
    server.wait_for_output("Serving https")
    client = Records(server.port, context)
    with client.socket:
        client.socket.sendall(client.record(b"GET /asks_socket HTTP/1.1\r\nHost: a\r\n\r\n"))
        name = repr(client.socket.getsockname()).encode()
        head = b"HTTP/1.1 200 OK"
        assert client.read(len(head)) == head
        while not head.endswith(name):
            head += client.read(1)
        for record in (client.record(request(b"abc")), client.record(b"abc")):
            for n in range(len(record)):
                client.socket.sendall(record[n : n + 1])
        echoes(client, b"abc")
        fields = b"Host: a\r\nContent-Length: 3\r\n\r\n"
        client.socket.sendall(client.record(b"POST /asks_socket HTTP/1.1\r\n" + fields + b"ab"))
        assert client.read(12) == b"HTTP/1.1 408", "the body does not come"
    assert "Traceback" not in server.output()


def test_who_is_gone_before_the_handshake(tls: GunicornProcess, context: ssl.SSLContext) -> None:
    """An end and a reset: gevent makes a socket of it that has nothing of TLS."""
    before = len(tls.output())
    with connect(tls, context) as client:
        client.send(b"GET /blocks HTTP/1.1\r\nHost: a\r\n\r\n")
        tls.wait_for_output("the worker is held up")
        for _ in range(3):
            with connect(tls) as gone:
                gone.socket.shutdown(socket.SHUT_WR)
                gone.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        (tls.cwd / "release").touch()
        assert client.answer().body == b"ended"
        (tls.cwd / "release").unlink()
        assert client.ask("/echo").status == 200
    assert "Traceback" not in tls.output()[before:]


def test_what_was_decrypted_already_is_not_forgotten(
    tls: GunicornProcess, context: ssl.SSLContext
) -> None:
    """The end of a body and further requests in one record: no watcher wakes for the rest of it."""
    client = Records(tls.port, context)
    with client.socket:
        first = client.record(request(b"abc"))
        behind = b"abc" + request(b"d") + b"d" + request(b"e" * 9000) + b"e" * 9000
        client.socket.sendall(first + client.record(behind))
        echoes(client, b"abc", b"d", b"e" * 9000)
        client.socket.sendall(client.record(request(b"last") + b"last"))
        echoes(client, b"last")


def test_a_handshake_has_a_deadline(tls: GunicornProcess, context: ssl.SSLContext) -> None:
    hello, incoming = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(incoming, hello, server_hostname="localhost").do_handshake()
    with connect(tls) as silent, connect(tls) as slow:
        slow.send(hello.read()[:100])
        assert silent.ended()
        assert slow.ended()


def test_large_responses_and_files(start: Starter, certificate: tuple[Path, Path]) -> None:
    """More than the peer takes at once; a file, which sendfile would send past TLS."""
    cert, key = certificate
    with GunicornProcess(
        "tests.http.plain:app", "--pythonpath", str(ROOT), "-c", str(ROOT / "tests/http/plain.py"),
        "--certfile", str(cert), "--keyfile", str(key),
    ) as server:  # fmt: skip
        server.wait_for_output("Serving https")
        context = ssl.create_default_context(cafile=str(cert))
        with connect(server, context) as client:
            for _ in range(2):
                assert client.ask("/large").body == TEXT * 20
                assert client.ask("/file").body == TEXT[10:]
                assert client.ask("/hints").status == 103
                assert client.answer().status == 103
                assert client.answer().body == b"hello"


@pytest.mark.parametrize("kind", [WORKER_CLASS, "gevent"])
def test_http_2_where_it_is_turned_on(kind: str, certificate: tuple[Path, Path]) -> None:
    """gunicorn's own code serves it, with the answers of gunicorn's own worker."""
    cert, key = certificate
    with ExitStack() as stack:
        server = stack.enter_context(
            GunicornProcess(
                "tests.http.plain:app", "--pythonpath", str(ROOT), "--http-protocols", "h2,h1",
                "--certfile", str(cert), "--keyfile", str(key), worker=kind,
            )
        )  # fmt: skip
        server.wait_for_output("Booting worker")
        context = ssl.create_default_context(cafile=str(cert))
        with connect(server, context) as client:
            assert client.ask("/echo", method="POST", body=b"one").body == b"one"
        context.set_alpn_protocols(["h2", "http/1.1"])
        with connect(server, context) as client:
            assert client.socket.selected_alpn_protocol() == "h2"  # type: ignore[attr-defined]
            assert over_http_2(client.socket, b"two" * 5000) == ("200", b"two" * 5000)


@pytest.mark.parametrize(
    ("source", "trusted", "client"),
    [
        ("x-forwarded-for", "127.0.0.1", "198.51.100.7"),
        ("forwarded", "127.0.0.1", "198.51.100.8"),
        ("none", "127.0.0.1", "127.0.0.1"),
        ("x-forwarded-for", "192.0.2.1", "127.0.0.1"),
    ],
)
def test_clients_over_http_2(
    source: str, trusted: str, client: str, start: Starter, certificate: tuple[Path, Path]
) -> None:
    """One source, and trusted peers alone, as over HTTP/1."""
    cert, key = certificate
    server = start(
        "--http-protocols", "h2,h1", "--certfile", str(cert), "--keyfile", str(key),
        "--forwarded-allow-ips", trusted, client_source=source,
    )  # fmt: skip
    server.wait_for_output("Serving https")
    assert server.output().count("http_protocols allows HTTP/2") == 1
    context = ssl.create_default_context(cafile=str(cert))
    context.set_alpn_protocols(["h2"])
    forged = [
        ("x-forwarded-for", "203.0.113.1, 198.51.100.7, 127.0.0.1"),
        ("forwarded", "for=203.0.113.1, for=198.51.100.8, for=127.0.0.1"),
    ]
    with connect(server, context) as asking:
        status, body = over_http_2(asking.socket, b"", "/describe", *forged)
    said = json.loads(body)
    assert (status, said["REMOTE_ADDR"]) == ("200", client)
    assert ("REMOTE_PORT" in said) == (client == "127.0.0.1")


def test_connections_of_http_2_are_bounded(start: Starter, certificate: tuple[Path, Path]) -> None:
    """Each holds a greenlet, and so a place in worker_connections."""
    cert, key = certificate
    server = start(
        "--http-protocols", "h2,h1", "--certfile", str(cert), "--keyfile", str(key),
        "--worker-connections", "1", "--keep-alive", "30",
    )  # fmt: skip
    server.wait_for_output("Serving https")
    context = ssl.create_default_context(cafile=str(cert))
    context.set_alpn_protocols(["h2"])
    with connect(server, context) as first:
        assert over_http_2(first.socket, b"one") == ("200", b"one")
        with connect(server, context) as second:
            assert second.socket.recv(12) == b"HTTP/1.1 503", "no frame of HTTP/2: it ends there"
    wait_until(lambda: served(server, context), "there is room again")


def served(server: GunicornProcess, context: ssl.SSLContext) -> bool:
    """Whether a new connection gets an answer in HTTP/2."""
    with connect(server, context) as client:
        try:
            return over_http_2(client.socket, b"more") == ("200", b"more")
        except (h2.exceptions.ProtocolError, OSError):
            return False


def over_http_2(
    sock: socket.socket, body: bytes, path: str = "/echo", *fields: tuple[str, str]
) -> tuple[str, bytes]:
    """POST; its status and body."""
    made = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
    made.initiate_connection()
    made.send_headers(
        1,
        [(":method", "POST"), (":path", path), (":scheme", "https"), (":authority", "a"), *fields],
    )
    made.send_data(1, body, end_stream=True)
    status, got = "", b""
    while True:
        sock.sendall(made.data_to_send())
        data = sock.recv(65536)
        assert data, "the server has closed"
        for event in made.receive_data(data):
            if isinstance(event, h2.events.ResponseReceived):
                status = dict(event.headers)[":status"]
            elif isinstance(event, h2.events.DataReceived):
                got += event.data
                made.acknowledge_received_data(event.flow_controlled_length, 1)
            elif isinstance(event, h2.events.StreamEnded):
                return status, got


def test_http_2_is_off_by_default(tls: GunicornProcess, context: ssl.SSLContext) -> None:
    context.set_alpn_protocols(["h2", "http/1.1"])
    with connect(tls, context) as client:
        assert client.socket.selected_alpn_protocol() != "h2"  # type: ignore[attr-defined]
        assert client.ask("/echo").status == 200


def test_resets_and_those_who_read_nothing(tls: GunicornProcess, context: ssl.SSLContext) -> None:
    """A peer that resets in the midst of a response costs nothing but a line at level debug."""
    before = len(tls.output())
    for _ in range(5):
        client = Records(tls.port, context)
        body = b"x" * 15_000
        client.socket.sendall(client.record(request(body * 100) + body))
        for _ in range(99):
            client.socket.sendall(client.record(body))
        client.read(20_000)
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.socket.close()
    with connect(tls, context) as again:
        assert again.ask("/echo", method="POST", body=b"still there").body == b"still there"
    assert "Traceback" not in tls.output()[before:]
