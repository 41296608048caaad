"""Emits between workers, and from outside of them."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nti.appserver.errors import ConfigurationError
from nti.appserver.handover.folder import Folder
from nti.appserver.settings import load_settings
from nti.appserver.socketio import Emitter
from nti.appserver.socketio.bus import MAX_MESSAGE, framed
from nti.appserver.socketio.manager import manager_for
from nti.appserver.testing.process import GunicornProcess, ServerProcess, free_port, wait_until
from nti.appserver.testing.socketio import SocketIO

from .conftest import start

WORKERS = 2
RUN = "from nti.appserver.socketio.command import emit; emit()"


@contextlib.contextmanager
def clients_of_every_worker(server: GunicornProcess) -> Iterator[dict[int, SocketIO]]:
    """A client for each worker, by its process id."""
    with contextlib.ExitStack() as opened:
        clients: dict[int, SocketIO] = {}

        def another() -> bool:
            client = opened.enter_context(SocketIO(server.url))
            clients.setdefault(client.call("pid")[0], client)
            return len(clients) == WORKERS

        wait_until(another, "every worker has a client")
        yield clients


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GunicornProcess]:
    folder = tmp_path_factory.mktemp("workers")
    with start(folder, "-w", str(WORKERS)) as process:
        yield process.wait_until_serving()


def emitter(server: GunicornProcess) -> Emitter:
    return Emitter(load_settings(cli={"var": str(server.cwd / "var")}))


def test_an_emit_reaches_the_clients_of_every_worker(workers: GunicornProcess) -> None:
    with clients_of_every_worker(workers) as clients:
        for number, sender in enumerate(clients.values()):
            sender.emit("say", number, b"\x00\xff", "x" * 500_000)
            for client in clients.values():
                assert client.wait_for("said") == (number, b"\x00\xff", "x" * 500_000)


def test_emits_stay_in_order(workers: GunicornProcess) -> None:
    with clients_of_every_worker(workers) as clients:
        sender, *others = clients.values()
        for number in range(200):
            sender.emit("say", number)
        for client in others:
            assert [client.wait_for("said") for _ in range(200)] == [(n,) for n in range(200)]


def test_a_worker_that_was_killed_is_forgotten(workers: GunicornProcess) -> None:
    with clients_of_every_worker(workers) as clients:
        victim, survivor = clients
        os.kill(victim, signal.SIGKILL)
        clients[victim].wait_for_end()
        sockets = workers.cwd / "var" / "run" / "bus"

        def removed() -> bool:
            """The survivor finds out when it sends."""
            assert clients[survivor].call("say", "alone") == ["heard", 1]
            return not list(sockets.glob(f"{victim}-*"))

        wait_until(removed, "the socket left behind is removed")
    with clients_of_every_worker(workers) as clients:
        sender, other = clients.values()
        sender.emit("say", "together")
        assert other.wait_for("said") == ("together",)


def test_a_script_emits(workers: GunicornProcess) -> None:
    with clients_of_every_worker(workers) as clients:
        assert emitter(workers).emit("news", {"from": b"outside"}, to="all") == WORKERS
        for client in clients.values():
            assert client.wait_for("news") == ({"from": b"outside"},)


def test_the_command_emits(workers: GunicornProcess) -> None:
    command = [sys.executable, "-c", RUN, "news", '{"a": 1}', "--to", "all"]
    with clients_of_every_worker(workers) as clients:
        done = subprocess.run(command, cwd=workers.cwd, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stdout) == (0, f"told {WORKERS} workers\n"), done.stderr
        for client in clients.values():
            assert client.wait_for("news") == ({"a": 1},)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["news", "not json"], "is not JSON"),
        (["news", "1"], "no worker with clients was found"),
    ],
)
def test_the_command_says_what_is_wrong(tmp_path: Path, arguments: list[str], said: str) -> None:
    command = [sys.executable, "-c", RUN, *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert said in done.stderr


def test_a_folder_that_cannot_be_made_is_reported_and_the_site_serves(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with start(tmp_path, runtime_dir=str(tmp_path / "file")) as server:
        server.wait_until_serving()
        with SocketIO(server.url) as client:
            assert client.call("say", "hi") == ["heard", 1]
        server.wait_for_output("emits of other workers are not heard")
        server.wait_for_output("set runtime_dir")


def test_a_path_too_long_for_a_unix_address(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    with start(tmp_path, runtime_dir=str(deep)) as server:
        server.wait_until_serving()
        with SocketIO(server.url) as client:
            assert Emitter(load_settings(cli={"runtime_dir": str(deep)})).emit("news", 1) == 1
            assert client.wait_for("news") == (1,)


# -- Redis


@pytest.mark.skipif(
    shutil.which("redis-server") is None and not os.environ.get("REQUIRE_REDIS"),
    reason="needs redis-server",
)
def test_redis_carries_emits(tmp_path: Path) -> None:
    port = free_port()
    redis = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    address = f"redis://127.0.0.1:{port}/0"
    with ServerProcess(redis, cwd=tmp_path) as broker:
        broker.wait_for_output("eady to accept connections")
        folder = tmp_path / "site"
        folder.mkdir()
        with start(folder, "-w", str(WORKERS), bus=address) as server:
            server.wait_until_serving()
            with clients_of_every_worker(server) as clients:
                sender, other = clients.values()

                def arrives() -> bool:
                    """A worker subscribes a moment after its first client has come."""
                    sender.emit("say", "through redis")
                    with contextlib.suppress(TimeoutError):
                        return other.wait_for("said", timeout=1) == ("through redis",)
                    return False

                wait_until(arrives, "an emit of another worker")
                Emitter(load_settings(cli={"bus": address})).emit("news", 2)
                assert other.wait_for("news") == (2,)


def test_a_bus_that_there_is_not() -> None:
    with pytest.raises(ConfigurationError, match="local, or redis://"):
        manager_for(load_settings(cli={"bus": "carrier pigeon"}))


# -- the folder


def test_changes_of_the_folder_are_seen_however_fast_they_follow(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    for number in range(200):
        (tmp_path / f"{number}.sock").touch()
        assert len(folder.names()) == number + 1
    folder.remove("0.sock")
    folder.remove("0.sock")
    assert len(folder.names()) == 199


def test_a_folder_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert Folder(tmp_path / "absent").names() == ()


def test_a_message_has_a_largest_size() -> None:
    with pytest.raises(ValueError, match="expected at most"):
        framed(b"x" * (MAX_MESSAGE + 1))
