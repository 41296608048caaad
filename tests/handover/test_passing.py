"""Giving descriptors to another process: confirmed, refused, too late, by a stranger.

Both ends are greenlets of this process, which is not patched.
"""

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import gevent
import pytest

from nti.appserver.handover import passing
from nti.appserver.handover.folder import Folder
from nti.appserver.handover.passing import Description, Receiver, pass_on

NAME = "00000000.sock"


class Taker:
    """What a worker does with what it takes."""

    room = True

    def __init__(self) -> None:
        self.taken: list[tuple[Description, bytes]] = []

    def take(self, descriptor: int, description: Description, data: bytes) -> None:
        with socket.socket(fileno=descriptor) as connection:
            connection.sendall(b"from its worker")
        self.taken.append((description, data))


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "run")


@pytest.fixture
def taker(folder: Folder) -> Iterator[Taker]:
    taker = Taker()
    receiver = Receiver(folder, NAME, lambda: taker.room, taker.take)
    receiver.start()
    yield taker
    receiver.stop()


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A client's end of a connection, and the worker's."""
    client, worker = socket.socketpair()
    with client, worker:
        client.settimeout(10)
        yield client, worker


def test_what_is_given_is_taken(
    folder: Folder, taker: Taker, ends: tuple[socket.socket, socket.socket]
) -> None:
    client, worker = ends
    data = os.urandom(300_000)
    assert pass_on(folder, NAME, worker.fileno(), {"peer": "here"}, data)
    worker.close()
    gevent.sleep(0)
    assert client.recv(100) == b"from its worker"
    assert client.recv(100) == b"", "nobody keeps a copy"
    assert taker.taken == [({"peer": "here"}, data)]


def test_without_room_it_stays(
    folder: Folder, taker: Taker, ends: tuple[socket.socket, socket.socket]
) -> None:
    client, worker = ends
    taker.room = False
    assert not pass_on(folder, NAME, worker.fileno(), {}, b"")
    worker.sendall(b"from here")
    assert client.recv(100) == b"from here"


def test_a_socket_that_nobody_listens_on_is_taken_away(
    folder: Folder, ends: tuple[socket.socket, socket.socket]
) -> None:
    folder.listen(NAME, 1).close()
    assert folder.names() == (NAME,)
    assert not pass_on(folder, NAME, ends[1].fileno(), {}, b"")
    assert folder.names() == ()
    assert not pass_on(folder, NAME, ends[1].fileno(), {}, b""), "nor where there is none"


def test_a_worker_that_hangs_does_not_take_it_later(
    folder: Folder,
    ends: tuple[socket.socket, socket.socket],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The giver has gone on with it by then: two would write to one client."""
    monkeypatch.setattr(passing, "PATIENCE", 0.2)
    client, worker = ends
    listener = folder.listen(NAME, 8)
    assert not pass_on(folder, NAME, worker.fileno(), {}, b"")
    late = Taker()
    receiver = Receiver(folder, NAME, lambda: True, late.take)
    connection, _ = listener.accept()
    receiver._receive(connection)
    listener.close()
    assert late.taken == []
    worker.close()
    assert client.recv(100) == b"", "and keeps no copy of it"


def test_frames_that_are_none(folder: Folder, taker: Taker) -> None:
    for sent in (b"", b"\0\0\0", b"\0\0\0\x05{}\n", b"\xff\xff\xff\xff"):
        with gevent.socket.socket(socket.AF_UNIX) as stranger:
            stranger.connect(folder.address(NAME))
            stranger.sendall(sent)
            stranger.shutdown(socket.SHUT_WR)
            stranger.settimeout(10)
            assert stranger.recv(10) == b""
    assert taker.taken == []


def test_too_large_a_request_stays(
    folder: Folder, taker: Taker, ends: tuple[socket.socket, socket.socket]
) -> None:
    assert not pass_on(folder, NAME, ends[1].fileno(), {}, bytes(passing.MAX_FRAME))


GIVE = """
import os, sys
from nti.appserver.handover.folder import Folder
from nti.appserver.handover import passing
from nti.appserver.handover.passing import pass_on
from pathlib import Path
folder = Folder(Path(sys.argv[1]))
pass_on(folder, "none.sock", 0, {}, b"")  # imports all that it needs while this user may read it
if sys.argv[3:]:
    passing.same_user = lambda connection: True
os.setuid(65534)
print(pass_on(folder, sys.argv[2], 0, {}, b""))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
@pytest.mark.parametrize("careless", [(), ("careless",)])
def test_another_user_gives_nothing(
    taker: Taker, folder: Folder, careless: tuple[str, ...]
) -> None:
    """Even where the folder and the socket are open to everybody; nor if it would."""
    for each in (*folder.path.parents, folder.path, folder.path / NAME):
        if each.stat().st_uid == os.geteuid() and Path(tempfile.gettempdir()) in each.parents:
            each.chmod(0o777)
    command = [sys.executable, "-c", GIVE, str(folder.path), NAME, *careless]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while process.poll() is None:
        gevent.sleep(0.02)
    out, err = process.communicate()
    assert out == "False\n", err
    assert ("is of another user" in err) == (not careless)
    assert taker.taken == []
