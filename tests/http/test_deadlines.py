"""The sweeper: never early, at most a slot late, whatever is moved meanwhile. And patience."""

import random
import select
import socket
import tempfile
from collections.abc import Callable
from fcntl import ioctl
from termios import TIOCOUTQ
from types import SimpleNamespace

import pytest

from nti.appserver.http import deadlines, patience
from nti.appserver.http.connection import Connection
from nti.appserver.http.deadlines import NEVER, SLOT_SECONDS, Deadlines
from nti.appserver.http.patience import Patience


class Clock:
    """Time, and the loop whose timer it drives."""

    def __init__(self) -> None:
        self.now = 1000.05
        self._sweep: Callable[[], None] = lambda: None

    def timer(self, after: float, repeat: float) -> "Clock":
        return self

    def start(self, sweep: Callable[[], None]) -> None:
        self._sweep = sweep

    def pass_by(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now += SLOT_SECONDS
            self._sweep()


class Item:
    deadline = NEVER
    slot = 0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(deadlines, "monotonic", lambda: made.now)
    return made


def test_exact_to_a_slot(clock: Clock) -> None:
    draw, wanted, expired = random.Random(1), {}, {}
    wheel: Deadlines[Item] = Deadlines(clock, lambda item: expired.setdefault(item, clock.now))
    wheel.start()
    for _ in range(1000):
        item = Item()
        wanted[item] = clock.now + draw.random() * 20
        wheel.watch(item, wanted[item])
        if draw.random() < 0.3:
            wanted[item] = clock.now + draw.random() * 40  # later or earlier
            wheel.watch(item, wanted[item])
        elif draw.random() < 0.2:
            wanted[item] = item.deadline = NEVER
        if draw.random() < 0.1:
            clock.pass_by(0.1)
    clock.pass_by(60)
    for item, when in wanted.items():
        if when == NEVER:
            assert item not in expired
        else:
            late = expired[item] - when
            assert 0 <= late <= 2 * SLOT_SECONDS, "a slot, and what lies between two sweeps"


def test_a_hub_that_was_held_up_forgets_nobody(clock: Clock) -> None:
    expired: list[Item] = []
    wheel: Deadlines[Item] = Deadlines(clock, expired.append)
    wheel.start()
    items = [Item() for _ in range(50)]
    for n, item in enumerate(items):
        wheel.watch(item, clock.now + n / 10)
    clock.now += 30
    clock.pass_by(SLOT_SECONDS)
    assert sorted(map(id, expired)) == sorted(map(id, items))


def waits(clock: Clock, kept: Patience, seconds: float, size: int) -> float:
    """What is left after a wait of so many seconds for so many bytes."""
    since = clock.now
    clock.now += seconds
    kept.waited(since, size)
    return round(kept.left, 6)


def test_patience_comes_back_with_bytes(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "monotonic", lambda: clock.now)
    kept = Patience(30.0, 500)
    assert waits(clock, kept, 12, 1000) == 20
    assert waits(clock, kept, 1, 1_000_000) == 30, "never more than at first"
    clock.now += 100  # the application's time
    assert waits(clock, kept, 29, 1) == 1.002
    assert waits(clock, kept, 3, 1) < 0
    kept = Patience(30.0, 0)
    assert waits(clock, kept, 29, 1) == 30


def queued(sock: socket.socket) -> bytes:
    """How much the kernel still has for the peer."""
    return ioctl(sock.fileno(), TIOCOUTQ, bytes(4))


class Slow(Connection):
    """A connection whose peer takes some in all the time that there is, and no more.

    :param takes: whether it takes anything.
    """

    def __init__(self, *, takes: bool) -> None:
        self.takes = takes
        self.sock, self.far = socket.socketpair()
        self.sock.setblocking(False)
        settings = SimpleNamespace(send_timeout=30.0, body_rate=500)
        self.listener = SimpleNamespace(tls=None, server=SimpleNamespace(settings=settings))
        self.broken = False
        self.came = bytearray()
        self.timeouts = 0

    def wait_writable(self, seconds: float) -> None:
        before = queued(self.sock)
        while self.takes and queued(self.sock) == before:
            self.came += self.far.recv(1000)
        if not select.select([], [self.sock], [], 0)[1]:
            self.timeouts += 1
            self.broken = True
            raise TimeoutError


DATA = random.Random(1).randbytes(2_000_000)


@pytest.mark.parametrize("file", [False, True])
def test_who_takes_some_is_not_given_up(file: bool) -> None:
    """The kernel says that it has room again only when it has much, later than the deadline."""
    conn = Slow(takes=True)
    with conn.sock, conn.far:
        if file:
            with tempfile.TemporaryFile() as opened:
                opened.write(DATA)
                opened.flush()
                assert conn.sendfile(opened, 0, len(DATA)) == len(DATA)
        else:
            conn.sendall(DATA)
        conn.sock.shutdown(socket.SHUT_WR)
        while piece := conn.far.recv(1 << 20):
            conn.came += piece
    assert bytes(conn.came) == DATA
    assert conn.timeouts > 0
    assert not conn.broken


def test_who_takes_nothing_is_given_up() -> None:
    conn = Slow(takes=False)
    with conn.sock, conn.far, pytest.raises(TimeoutError):
        conn.sendall(DATA)
    assert conn.broken
