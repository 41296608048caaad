"""Loads that their callers send themselves, beside what the I/O thread writes."""

import asyncio
import os
import socket
import ssl
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop

from nti.appserver.storage.zeo.outlet import Outlet, outlet_for
from nti.appserver.testing.patched import run
from nti.appserver.testing.process import ServerProcess, wait_until
from nti.appserver.testing.zeo import ZEOServer
from tests.deploy.programs import certificate

HEAD = struct.Struct(">IBI")


@contextmanager
def loop_in_thread(new_loop: Callable[[], Any]) -> Iterator[Any]:
    loop = new_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.run_until_complete(asyncio.sleep(0.01))  # what is being closed gets its end
        loop.close()


def connected(loop: Any, end: socket.socket) -> Any:
    """A transport of `loop` that owns `end`."""
    connecting = loop.create_unix_connection(asyncio.Protocol, sock=end)
    transport, _ = asyncio.run_coroutine_threadsafe(connecting, loop).result(10)
    return transport


def received(end: socket.socket, count: int) -> dict[int, set[int]]:
    """The numbers of so many messages, by sender; each must be whole."""
    numbers: dict[int, set[int]] = {}
    with end.makefile("rb") as stream:
        for _ in range(count):
            size, sender, number = HEAD.unpack(stream.read(HEAD.size))
            assert stream.read(size) == bytes([sender]) * size, (sender, number)
            assert number not in numbers.setdefault(sender, set())
            numbers[sender].add(number)
    return numbers


def test_messages_of_all_threads_stay_whole() -> None:
    each, senders = 4000, 3
    ours, peer = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    peer.settimeout(30)
    directly, in_part = [0] * senders, [0] * senders
    with loop_in_thread(uvloop.new_event_loop) as loop:
        outlet = outlet_for(connected(loop, ours))
        assert outlet is not None

        def send(sender: int) -> None:
            for number in range(each):
                size = number % 997
                message = HEAD.pack(size, sender, number) + bytes([sender]) * size
                if not outlet.claim():
                    loop.call_soon_threadsafe(outlet.writelines, (message[:4], message[4:]))
                    time.sleep(0.001)  # or there will always be something to write
                    continue
                try:
                    outlet.send(message)
                finally:
                    outlet.release()
                directly[sender] += 1
                if not outlet.is_settled:
                    in_part[sender] += 1
                    loop.call_soon_threadsafe(outlet.settle)

        threads = [threading.Thread(target=send, args=(sender,)) for sender in range(senders)]
        for thread in threads:
            thread.start()
        numbers = received(peer, each * senders)
        for thread in threads:
            thread.join(10)
        loop.call_soon_threadsafe(outlet.close)
        assert peer.recv(1) == b""
    peer.close()
    assert numbers == {sender: set(range(each)) for sender in range(senders)}
    assert sum(directly) > 100
    assert sum(in_part) > 10


def test_after_its_close_nobody_may_send() -> None:
    ours, peer = socket.socketpair()
    with loop_in_thread(uvloop.new_event_loop) as loop, peer:
        outlet = outlet_for(connected(loop, ours))
        assert outlet is not None
        assert outlet.claim()
        assert not outlet.claim()
        outlet.release()
        descriptor = outlet._descriptor
        assert descriptor is not None
        os.fstat(descriptor)
        loop.call_soon_threadsafe(outlet.close)
        peer.settimeout(10)
        assert peer.recv(1) == b""
        assert not outlet.claim()
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)


def test_a_loop_of_asyncio_allows_none() -> None:
    ours, peer = socket.socketpair()
    with loop_in_thread(asyncio.new_event_loop) as loop, peer:
        transport = connected(loop, ours)
        assert outlet_for(transport) is None
        loop.call_soon_threadsafe(transport.close)


def test_tls_allows_none(tmp_path: Path) -> None:
    """What is sent must be enciphered first, by the one object that does so."""
    files = certificate(tmp_path)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(files["certificate"], files["key"])
    trusting = ssl.create_default_context(cafile=files["certificate"])

    async def connect() -> Outlet | None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0, ssl=serving)
        transport, _ = await loop.create_connection(
            asyncio.Protocol,
            *server.sockets[0].getsockname(),
            ssl=trusting,
            server_hostname="localhost",
        )
        found = outlet_for(transport)
        transport.abort()
        server.close()
        await asyncio.sleep(0.1)  # for both ends to be closed
        return found

    assert uvloop.run(connect()) is None


#: A database whose objects are not in a cache, and what its loads give to the I/O thread.
OPENED = """
import sys, gevent
from persistent.mapping import PersistentMapping
from nti.appserver.storage.zeo import outlet
from tests.storage.programs import opened
database = opened(sys.argv[1])
with database.transaction() as connection:
    connection.root()["all"] = [PersistentMapping(n=n) for n in range(20)]
database.storage._cache.clear()
database.cacheMinimize()
thread = database.storage._server
submitted, submit = [], thread._submit
def spy(function, *arguments):
    submitted.append(function.__name__)
    submit(function, *arguments)
thread._submit = spy
def load(number):
    with database.transaction() as connection:
        return connection.root()["all"][number]["n"]
def load_all():
    jobs = [gevent.spawn(load, number) for number in range(20)]
    gevent.joinall(jobs, timeout=20)
    return [job.value for job in jobs] == list(range(20))
"""


def test_a_load_is_sent_by_its_caller(zeo: ZEOServer) -> None:
    printed = run(
        OPENED
        + """
thread.catch_up()
submitted.clear()
assert load(7) == 7
assert "_load" not in submitted, submitted
database.close()
print("ok")
""",
        zeo.uri,
    )
    assert printed == "ok\n"


@pytest.mark.parametrize("taken", [-1, 0, 3])
def test_what_the_socket_does_not_take_is_sent_by_the_io_thread(zeo: ZEOServer, taken: int) -> None:
    printed = run(
        OPENED
        + """
taken, send = int(sys.argv[2]), outlet._send
outlet._send = lambda to, data, size, flags: send(to, data, taken, flags) if taken > 0 else taken
assert load_all()
assert "attend" in submitted, submitted
database.close()
print("ok")
""",
        zeo.uri,
        str(taken),
    )
    assert printed == "ok\n"


def test_a_load_that_meets_the_close_of_its_connection_ends(zeo: ZEOServer) -> None:
    """Its future comes when all others have been told already."""
    printed = run(
        OPENED
        + """
from ZEO.Exceptions import ClientDisconnected
from nti.appserver.hub.waking import Answer
load(0)  # the root and the list are in the cache now
protocol = thread.client.protocol
claim = protocol._outlet.claim
def claim_and_close():
    claimed = claim()
    protocol._outlet.release()
    closed = Answer()
    def close():
        protocol.close("a test")
        thread.client.disconnected(protocol)
        closed.give(None)
    submit(close)
    closed.wait()
    protocol._outlet._lock.acquire()
    return claimed
protocol._outlet.claim = claim_and_close
outlet._send = lambda *arguments: -1
with gevent.Timeout(20):
    try:
        load(7)
    except ClientDisconnected:
        print("told")
    assert load_all()
database.close()
print("ok")
""",
        zeo.uri,
    )
    assert printed == "told\nok\n"


@pytest.fixture
def unix_uri(tmp_path: Path) -> Iterator[str]:
    """Of a ZEO server on a unix socket."""
    path = tmp_path / "zeo.sock"
    command = [sys.executable, "-m", "ZEO.runzeo", "-a", str(path), "-f", str(tmp_path / "Data.fs")]
    with ServerProcess(command, cwd=tmp_path):
        wait_until(path.exists, "the ZEO server listens")
        yield f"zeo://{path}"


@pytest.mark.parametrize("server", ["zeo", "unix_uri"])
def test_connections_that_are_given_up_leave_nothing(
    request: pytest.FixtureRequest, server: str
) -> None:
    """A descriptor that stays open would keep the server from giving up that client's commit.

    gevent closes where the thread has a hub, so the I/O thread must not have got one.
    """
    found = request.getfixturevalue(server)
    printed = run(
        OPENED
        + """
import psutil
from gevent._hub_local import get_hub_if_exists
client, loop = thread.client, thread.loop
hubs = []
def give_up(protocol):
    protocol.drop("a test")
    client.disconnected(protocol)
    hubs.append(get_hub_if_exists())
counts = []
for _ in range(5):
    with gevent.Timeout(20):
        while not client.operational:
            gevent.sleep(0.05)
    counts.append(psutil.Process().num_fds())
    protocol = client.protocol
    loop.call_soon_threadsafe(give_up, protocol)
    with gevent.Timeout(20):
        while client.protocol is protocol:
            gevent.sleep(0.05)
assert counts[-1] <= counts[0], counts
assert hubs == [None] * 5, hubs
database.close()
print("ok")
""",
        found.uri if isinstance(found, ZEOServer) else found,
    )
    assert printed == "ok\n"
