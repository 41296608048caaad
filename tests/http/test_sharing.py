"""Workers of a site share its connections evenly, and none waits for one that is stuck."""

import os
import signal
from contextlib import ExitStack

import pytest

from nti.appserver.http.sharing import LEAD, MOST, Share
from nti.appserver.testing.process import wait_until
from tests.http.client import Client
from tests.http.conftest import Starter

CONNECTIONS = 60


class Others:
    """Neighbours of whom the one with the fewest has this many connections."""

    def __init__(self, connections: int) -> None:
        self.connections = connections

    def note(self, connections: int) -> None:
        raise AssertionError("a share only looks")

    def close(self) -> None:
        raise AssertionError("a share only looks")

    def fewest(self) -> int:
        return self.connections


@pytest.mark.parametrize("fewest", [0, 5, 800])
def test_a_worker_that_is_ahead_defers(fewest: int) -> None:
    most = fewest + LEAD + fewest // 8
    assert not Share(Others(fewest)).defers(most)
    assert Share(Others(fewest)).defers(most + 1)


def test_it_defers_again_as_long_as_the_neighbour_accepts() -> None:
    others = Others(0)
    share = Share(others)
    for connections in range(1, 50):
        assert share.defers(500)
        others.connections = connections


def test_where_the_neighbour_does_not_it_takes_more_after_each_pause() -> None:
    share = Share(Others(0))
    taken: list[int] = []
    for connections in range(100, 400):
        while share.defers(connections):  # a pause
            taken.append(0)
        taken[-1] += 1
    assert taken[:8] == [1, 2, 4, 8, 16, 32, MOST, MOST]


def test_the_pause_ends_early_once_it_is_no_longer_ahead() -> None:
    share = Share(Others(10))
    assert share.defers(100)
    assert not share.behind(100)
    assert share.behind(10)
    assert not share.defers(10)


def test_nobody_waits_for_a_worker_that_stands_still(start: Starter) -> None:
    server = start("--workers=2", "--keep-alive=60").wait_until_serving()
    address = ("127.0.0.1", server.port)
    with ExitStack() as stack:
        clients: list[Client] = []

        def worker() -> bytes:
            clients.append(stack.enter_context(Client(address)))
            return clients[-1].ask("/worker").body

        found: set[bytes] = set()
        wait_until(lambda: found.add(worker()) or len(found) == 2, "both workers accept")
        still = int(found.pop())
        os.kill(still, signal.SIGSTOP)
        stack.callback(os.kill, still, signal.SIGCONT)
        assert {worker() for _ in range(CONNECTIONS)} == found
