"""Socket.IO over several workers without a sticky balancer: any worker may read any request."""

import contextlib
import json
import os
import re
import signal
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nti.appserver.testing.process import STARTING_SECONDS, GunicornProcess, wait_until
from nti.appserver.testing.socketio import Polling, RequestFailed, SocketIO

from .conftest import TRANSPORTS, start

WORKERS = 4


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GunicornProcess]:
    folder = tmp_path_factory.mktemp("workers")
    with start(folder, "-w", str(WORKERS)) as process:
        process.wait_until_serving()
        wait_until(
            lambda: len(sockets(process)) == WORKERS,
            "all take connections",
            seconds=STARTING_SECONDS,
        )
        yield process
        assert "Error on a connection" not in process.output()


def sockets(server: GunicornProcess) -> list[Path]:
    """Where the workers take connections from each other."""
    return list((server.cwd / "var" / "run" / "handover").glob("*.sock"))


Open = Callable[[], tuple[Polling, int]]


@pytest.fixture
def opened(workers: GunicornProcess) -> Iterator[Open]:
    """Opens clients that poll, in the namespace /; each with the process of its worker."""
    clients: list[Polling] = []

    def another() -> tuple[Polling, int]:
        polling = Polling(workers.url, (), 30)
        clients.append(polling)
        first = polling.receive()[0]
        assert isinstance(first, str)
        polling.sid = json.loads(first[1:])["sid"]
        polling.send("40")
        polling.send('421["pid"]')
        answers = ""
        while (found := re.search(r"431\[(\d+)\]", answers)) is None:
            answers += "".join(str(packet) for packet in polling.receive())
        return polling, int(found[1])

    yield another
    for client in clients:
        client.close()


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_every_client_is_served_by_its_own_worker(workers: GunicornProcess, transport: str) -> None:
    with contextlib.ExitStack() as stack:
        clients = [
            stack.enter_context(SocketIO(workers.url, transport=transport)) for _ in range(24)
        ]
        pids = [client.call("pid")[0] for client in clients]
        for number, client in enumerate(clients):
            assert client.call("pid") == [pids[number]], "a session moved"
        clients[0].emit("say", "to all")
        for client in clients:
            assert client.wait_for("said") == ("to all",)
    # 24 sessions at random on four workers: one gets all of them once in 4 ** 23 runs.
    assert len(Counter(pids)) > 1


def test_requests_of_many_sessions_on_one_connection(
    workers: GunicornProcess, opened: Open
) -> None:
    """As a proxy sends them that keeps its connections to the server."""
    shared, _ = opened()
    sessions = [(polling.sid, pid) for polling, pid in (opened() for _ in range(8))]
    assert len({pid for _, pid in sessions}) > 1
    for number in range(2, 6):
        for shared.sid, pid in sessions:
            shared.request("POST", f'42{number}["pid"]')
            answer = "".join(str(packet) for packet in shared.receive())
            assert f"43{number}[{pid}]" in answer


def test_a_body_that_comes_later_and_a_request_behind_it(
    workers: GunicornProcess, opened: Open
) -> None:
    """The connection goes over while its request is half sent; chunked, and told to go on first."""
    clients = [opened() for _ in range(8)]
    for polling, pid in clients:
        target = f"/socket.io/?EIO=4&transport=polling&sid={polling.sid}"
        with socket.create_connection(("127.0.0.1", workers.port), 20) as connection:
            lines = (
                f"POST {target} HTTP/1.1",
                "Host: site",
                "Transfer-Encoding: chunked",
                "Expect: 100-continue",
            )
            connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
            answers = connection.makefile("rb")
            assert answers.readline() == b"HTTP/1.1 100 Continue\r\n"
            body = b'427["pid"]'
            connection.sendall(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
            connection.sendall(f"GET {target} HTTP/1.1\r\nHost: site\r\n\r\n".encode())
            connection.sendall(b"GET / HTTP/1.0\r\nHost: site\r\n\r\n")
            assert f"437[{pid}]".encode() in answers.read()


def test_sessions_of_a_worker_that_was_killed_are_unknown(
    workers: GunicornProcess, opened: Open
) -> None:
    polling, pid = opened()
    os.kill(pid, signal.SIGKILL)
    again = Polling(workers.url, (), 30)
    again.sid = polling.sid
    with pytest.raises(RequestFailed, match="Session ID unknown") as failed:
        again.receive()
    again.close()
    assert failed.value.status == 400
    # Its socket goes as soon as it is tried, and new sessions are opened elsewhere.
    for _ in range(8):
        _, other = opened()
        assert other != pid
    wait_until(lambda: len(sockets(workers)) == WORKERS, "another took its place")


def test_the_event_loop_forgets_what_was_given_away(workers: GunicornProcess, opened: Open) -> None:
    """A descriptor that another worker has would wake this one, and have it set up its epoll."""
    clients = [opened() for _ in range(16)]
    for pid in {pid for _, pid in clients}:
        # Some that other tests have left may be closed while this looks.
        wait_until(lambda pid=pid: _watches_its_own(pid), f"{pid} watches what it has")


def _watches_its_own(pid: int) -> bool:
    """Whether each descriptor that its epoll looks at is still the same open file."""
    with contextlib.suppress(FileNotFoundError):
        infos = Path(f"/proc/{pid}/fdinfo").iterdir()
        watched = [each for info in infos for each in _watched(info)]
        return bool(watched) and all(
            os.stat(f"/proc/{pid}/fd/{descriptor}").st_ino == inode for descriptor, inode in watched
        )
    return False


def _watched(info: Path) -> list[tuple[str, int]]:
    """The descriptors and inodes that an epoll looks at, as the kernel tells."""
    found = re.findall(r"^tfd:\s+(\d+).*ino:(\w+)", info.read_text(), re.MULTILINE)
    return [(descriptor, int(inode, 16)) for descriptor, inode in found]


def test_no_worker_keeps_a_copy_of_what_it_gave_away(workers: GunicornProcess) -> None:
    """A client that hangs up is seen by its worker although another had read its request."""
    clients = [SocketIO(workers.url, transport="websocket") for _ in range(8)]
    pids = {client.call("pid")[0] for client in clients}
    for client in clients:
        client.close()
    for pid in pids:
        wait_until(lambda pid=pid: not _connected(pid), "the connections are closed")


def _connected(pid: int) -> list[str]:
    """The TCP connections of a process, but its listening socket."""
    import psutil

    found = psutil.Process(pid).net_connections("tcp")
    return [str(each) for each in found if each.status == "ESTABLISHED"]


@pytest.mark.parametrize("sid", ["", "0", "00000000.x", "../../x.y", "00000000", "zzzzzzzz.a"])
def test_sessions_that_nobody_has(workers: GunicornProcess, sid: str) -> None:
    with (
        contextlib.closing(Polling(workers.url, (), 30)) as polling,
        pytest.raises(RequestFailed, match=r"Session ID unknown|Bad handshake"),
    ):
        polling.request("POST", "2", sid=sid)


def test_the_folder_is_the_users_own(workers: GunicornProcess) -> None:
    assert sockets(workers)[0].parent.stat().st_mode & 0o777 == 0o700
