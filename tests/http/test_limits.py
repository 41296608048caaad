"""Bounds that keep a worker answering: slots, open connections, and deadlines for the slow."""

import resource
import selectors
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import pytest
from gunicorn.config import Config

from nti.appserver.http import connection
from nti.appserver.http.limits import SPARE
from nti.appserver.testing.process import GunicornProcess, wait_until
from nti.appserver.testing.websocket import WebSocket

from .client import connect
from .conftest import ROOT, Starter
from .differential import PROXY, Ours, Wire

#: The signature of the PROXY protocol's second version.
PROXY_2 = b"\r\n\r\n\0\r\nQUIT\n"

PARTIAL = b"GET /echo HTTP/1.1\r\nHost: a\r\n"


@pytest.fixture(scope="module")
def limited(start: Starter) -> GunicornProcess:
    """Two slots for requests, two for WebSockets."""
    server = start(
        "--worker-connections", "2", head_timeout="2", body_timeout="2", websocket_limit="2"
    )
    return server.wait_until_serving()


def test_refused_past_the_limit_and_health_answered(limited: GunicornProcess) -> None:
    url = f"ws://127.0.0.1:{limited.port}/websocket"
    with WebSocket(url), WebSocket(url), ExitStack() as stack:
        with connect(limited) as client:
            upgrade = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13")
            answer = client.ask("/websocket", *upgrade, "Sec-WebSocket-Key: " + "A" * 22 + "==")
            assert (answer.status, "retry-after" in answer.headers) == (503, True)
        waiting = [stack.enter_context(connect(limited)) for _ in range(2)]
        for client in waiting:
            client.send(b"GET /waits HTTP/1.1\r\nHost: a\r\n\r\n")
        wait_until(lambda: limited.output().count("a request waits") == 2, "both slots are taken")
        for path in ("/echo", "/_ops/pingpong"):
            with connect(limited) as client:
                answer = client.ask(path)
                assert answer.status == 503
                assert int(answer.headers["retry-after"]) > 0
                assert client.ended()
        for path in ("/_ops/ping", "/_ops/ready"):
            # Not ready is what a worker says of itself, too, which was kept from running.
            wait_until(lambda path=path: status(limited, path) == 200, f"{path} is answered")
        (limited.cwd / "release").touch()
        assert [client.answer().body for client in waiting] == [b"ended"] * 2
        assert waiting[0].ask("/echo").status == 200


def status(server: GunicornProcess, path: str) -> int:
    with connect(server) as client:
        return client.ask(path).status


@pytest.mark.parametrize(
    ("options", "environ", "before", "mount"),
    [
        (("--proxy-protocol", "v1"), {}, b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n", ""),
        (("--proxy-protocol", "v2"), {}, PROXY_2 + b"\x20\x00\x00\x00", ""),
        ((), {}, b"\r\n", ""),
        ((), {"SCRIPT_NAME": "/mounted"}, b"", "/mounted"),
    ],
)
def test_health_is_answered_however_it_is_asked_for(
    options: tuple[str, ...],
    environ: dict[str, str],
    before: bytes,
    mount: str,
    tmp_path: Path,
) -> None:
    """By the PROXY protocol, after an empty line, below a mount point."""
    options = ("--pythonpath", str(ROOT), "--worker-connections", "1", *options)
    with GunicornProcess("tests.http.apps:app", *options, cwd=tmp_path, environ=environ) as server:
        server.wait_for_output("Serving ")
        ask = before + b"GET %s%s HTTP/1.1\r\nHost: a\r\n\r\n"
        with connect(server) as busy:
            busy.send(ask % (mount.encode(), b"/waits"))
            server.wait_for_output("a request waits")
            for path, status in ((b"/_ops/ping", 200), (b"/echo", 503)):
                with connect(server) as client:
                    client.send(ask % (mount.encode(), path))
                    assert client.answer().status == status
            (tmp_path / "release").touch()
            assert busy.answer().body == b"ended"


@pytest.mark.parametrize(("size", "all_read"), [(10, True), (60_000, False)])
def test_so_many_bytes_are_read_after_the_last_response(size: int, all_read: bool) -> None:
    """However small the pieces are that they come in: else a reset may overtake the response."""
    wire = Wire([b"POST /x?unread HTTP/1.0\r\nContent-Length: 9999999\r\n\r\n"])
    ours = Ours(Config())
    conn = connection.Connection(ours.listener, wire, PROXY)
    ours.server.connections.add(conn)
    connection.readable(conn)
    assert b" 200 OK" in wire.transcript()
    wire.pieces = [b"x" * size] * 100
    while conn.state != connection.CLOSED:
        connection.readable(conn)
    assert bool(wire.pieces) != all_read


def test_slow_heads_and_bodies_have_deadlines(limited: GunicornProcess) -> None:
    with ExitStack() as stack:
        # Far more than there are slots: a partial head takes none.
        slow = [stack.enter_context(connect(limited)) for _ in range(30)]
        for client in slow:
            client.send(b"GET /echo HTTP/1.1\r\nHost: a\r\n")
        late = stack.enter_context(connect(limited))
        late.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabc")
        assert status(limited, "/echo") == 200
        assert all(client.ended() for client in slow)
        assert late.answer().status == 408
        assert late.ended()


def test_a_body_that_drips_is_given_up_and_a_steady_one_is_not(start: Starter) -> None:
    """Each byte comes well within body_timeout: what counts is how much comes in all."""
    server = start(body_timeout="2", body_rate="1000").wait_until_serving()
    head = b"POST /echo HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n"
    length, chunked = b"Content-Length: 1000000", b"Transfer-Encoding: chunked"
    with connect(server) as plain, connect(server) as coded, connect(server) as steady:
        plain.send(head % length + b"a")
        coded.send(head % chunked)
        steady.send(head % b"Content-Length: 100000")
        began, sent = time.monotonic(), 0
        dripping = {plain.socket: b"a", coded.socket: b"1\r\na\r\n"}
        with closing(selectors.DefaultSelector()) as selector:
            for sock in dripping:
                selector.register(sock, selectors.EVENT_READ)
            # Twice as long as a body may be waited for that brings nothing.
            while dripping or time.monotonic() - began < 4:
                assert time.monotonic() - began < 30, "still waited for"
                for key, _ in selector.select(0.25):
                    selector.unregister(key.fileobj)
                    del dripping[key.fileobj]
                for sock, piece in dripping.items():
                    sock.sendall(piece)
                if sent < 90_000:
                    steady.send(b"x" * 2000)
                    sent += 2000
        for client in (plain, coded):
            assert client.answer().status == 408
            assert client.ended()
        steady.send(b"x" * (100_000 - sent))
        assert steady.answer().body == b"x" * 100_000


def test_a_head_that_is_not_parked_has_its_deadline(limited: GunicornProcess) -> None:
    """One too large to be kept is with a greenlet; a field now and then does not keep it there."""
    with connect(limited) as client:
        client.send(PARTIAL + b"".join(b"X-%d: %s\r\n" % (n, b"x" * 7000) for n in range(12)))
        began = time.monotonic()
        client.socket.settimeout(0.1)
        ended = False
        while not ended and time.monotonic() - began < 20:
            with suppress(TimeoutError):
                try:
                    client.send(b"Y: 1\r\n")
                    ended = client.socket.recv(1) == b""
                except ConnectionError:
                    ended = True
        assert ended, "still open"


def test_an_endless_body_that_nobody_reads_ends_the_connection(limited: GunicornProcess) -> None:
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    with connect(limited) as client:
        client.send(b"POST /ignores_body HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        with pytest.raises(ConnectionError):
            client.send(chunk * 500)
    with connect(limited) as client:
        small = client.ask("/ignores_body", method="POST", body=b"x" * 500_000)
        assert small.headers["connection"] == "keep-alive"
        assert client.ask("/echo").status == 200


def test_open_connections_are_bounded(start: Starter) -> None:
    """Those past the bound wait in the backlog; the first that closes makes room for them."""
    server = start(connections="20").wait_until_serving()
    with ExitStack() as stack:
        idle = [stack.enter_context(connect(server)) for _ in range(20)]
        assert all(client.ask("/echo").status == 200 for client in idle)
        late = stack.enter_context(connect(server))
        late.send(b"GET /echo HTTP/1.1\r\nHost: a\r\n\r\n")
        late.socket.settimeout(0.5)
        with pytest.raises(TimeoutError):
            late.socket.recv(1)
        assert idle[0].ask("/echo").status == 200, "those inside are served"
        idle[0].socket.shutdown(socket.SHUT_RDWR)
        late.socket.settimeout(20)
        assert late.socket.recv(1) == b"H"
    assert "20 connections are open, others wait: so says `connections`" in server.output()


def with_open_files(
    limit: str, folder: Path, environ: dict[str, str], *options: str
) -> GunicornProcess:
    """A server with a limit of open files, as `ulimit` takes it."""
    options = ("--pythonpath", str(ROOT), "--keep-alive", "30", *options)
    server = GunicornProcess("tests.http.apps:app", *options, cwd=folder, environ=environ)
    server.command = ["sh", "-c", f'ulimit {limit}; exec "$@"', "sh", *server.command]
    return server


@pytest.mark.parametrize(("kind", "room"), [("-n", 300 - SPARE), ("-S -n", 400)])
def test_a_limit_of_open_files_is_a_bound_of_connections(
    kind: str, room: int, tmp_path: Path
) -> None:
    """Where the soft limit can be raised, it is; the application keeps descriptors either way."""
    environ = {"NTI_APPSERVER_CONNECTIONS": "400"}
    server = with_open_files(f"{kind} 300", tmp_path, environ)
    with ExitStack() as stack:
        stack.enter_context(server).wait_until_serving()
        clients = [stack.enter_context(connect(server)) for _ in range(room)]
        assert all(client.ask("/echo").status == 200 for client in clients)
        late = stack.enter_context(connect(server))
        late.send(b"GET /echo HTTP/1.1\r\nHost: a\r\n\r\n")
        _, sockets = map(int, clients[0].ask("/census").body.split())
        assert sockets >= room, "reading a folder takes a descriptor"
        clients[1].socket.shutdown(socket.SHUT_RDWR)
        assert late.answer().status == 200
    output = server.output()
    assert "Cannot accept" not in output
    assert output.count("connections at a time for each worker, not 400") == (room < 400)


@pytest.mark.parametrize("asked", ["", "15000"])
def test_a_bound_that_was_asked_for_and_cannot_be_is_reported_once(
    asked: str, tmp_path: Path
) -> None:
    """Not by each worker, and the default is no more than a wish."""
    environ = {"NTI_APPSERVER_CONNECTIONS": asked} if asked else {}
    server = with_open_files("-n 600", tmp_path, environ, "--workers", "2")
    with server:
        server.wait_until_serving()
        if asked:
            server.wait_for_output("connections at a time")  # the other worker may have served
        server.send_signal(signal.SIGHUP)
        wait_until(lambda: server.output().count("Worker exiting") == 2, "others serve")
        assert server.output().count("connections at a time") == bool(asked)


#: Slow clients, and how long they may take for a head, in seconds.
SLOW = 10_000
SLOW_HEAD = 10


@pytest.fixture
def descriptors() -> Iterator[None]:
    """Enough for `SLOW` sockets, in this process and the server's; skips where that cannot be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    need = SLOW + 500
    if hard != resource.RLIM_INFINITY and hard < need:
        pytest.skip(f"only {hard} open files are allowed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, need), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextmanager
def slow_clients(server: GunicornProcess) -> Iterator[dict[socket.socket, float]]:
    """Connections with a part of a head sent, and when each began: the server began no earlier."""
    began = {}
    try:
        for _ in range(SLOW):
            now = time.monotonic()
            sock = socket.create_connection(("127.0.0.1", server.port), 30)
            began[sock] = now
            sock.sendall(PARTIAL)
        yield began
    finally:
        for sock in began:
            sock.close()


def test_ten_thousand_slow_clients_hold_no_greenlet(start: Starter, descriptors: None) -> None:
    """Parked all the while, and each closed when its time for the head is over, dripping or not."""
    server = start("--backlog", "4096", head_timeout=str(SLOW_HEAD)).wait_until_serving()
    with slow_clients(server) as began, connect(server) as client:
        seen = client.ask("/census")
        greenlets, connections = map(int, seen.body.split())
        first = min(began.values())
        if time.monotonic() - first < SLOW_HEAD:  # on a machine that is not too busy
            assert connections > SLOW, "they were not all open at once"
        assert greenlets < 50
        dripping = list(began)[-100:]
        taken: list[float] = []
        with closing(selectors.DefaultSelector()) as selector:
            for sock in began:
                selector.register(sock, selectors.EVENT_READ)
            end = time.monotonic() + SLOW_HEAD + 30
            while selector.get_map() and time.monotonic() < end:
                for key, _ in selector.select(1):
                    with suppress(ConnectionError):  # what dripped in too late resets it
                        assert key.fileobj.recv(100) == b""
                    taken.append(time.monotonic() - began[key.fileobj])
                    selector.unregister(key.fileobj)
                    dripping = [sock for sock in dripping if sock is not key.fileobj]
                for sock in dripping:
                    with suppress(ConnectionError):
                        sock.sendall(b"X: 1\r\n")
        assert len(taken) == SLOW, "some are still open"
        assert min(taken) > SLOW_HEAD - 0.1, "closed before its time"
    with connect(server) as client:
        assert client.ask("/echo").status == 200
