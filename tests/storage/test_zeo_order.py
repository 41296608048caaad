"""Invalidations that come late: after the answer to a later commit, as from a server on uvloop."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nti.appserver.testing.patched import run
from nti.appserver.testing.zeo import ZEOServer

#: runzeo some of whose invalidations leave late, or when the file `go-on` is there; answers do not.
LATE = """
import os
from ZEO.asyncio import server

def send(self, ends, method, arguments):
    if self.loop.time() < ends and not os.path.exists("go-on"):
        self.loop.call_later(0.01, send, self, ends, method, arguments)
    else:
        self.call_async(method, arguments)

def async_threadsafe(self, method, *arguments):
    late = 0
    if method == "invalidateTransaction":
        self.sent = getattr(self, "sent", 0) + 1
        late = SECONDS if self.sent in LATE_ONES else 0
    self.loop.call_soon_threadsafe(send, self, self.loop.time() + late, method, arguments)

server.ServerProtocol.async_threadsafe = async_threadsafe
from ZEO.runzeo import main
main()
"""


def late_server(folder: Path, late_ones: str, seconds: float) -> ZEOServer:
    """A server that is late with those invalidations, counted for each client."""
    server = ZEOServer(folder)
    program = LATE.replace("LATE_ONES", late_ones).replace("SECONDS", str(seconds))
    server.command = [sys.executable, "-c", program, *server.command[3:]]
    return server


@pytest.fixture
def late(tmp_path: Path) -> Iterator[ZEOServer]:
    """Late with each, by half a second."""
    with late_server(tmp_path, "range(1000)", 0.5) as server:
        yield server


@pytest.fixture
def late_once(tmp_path: Path) -> Iterator[ZEOServer]:
    """Late with the first one to each client until it is told, so that others overtake it."""
    with late_server(tmp_path, "(1,)", 60) as server:
        yield server


def test_after_a_commit_all_earlier_ones_are_seen(late: ZEOServer) -> None:
    printed = run(
        """
        import sys, time
        from persistent.mapping import PersistentMapping
        from tests.storage.programs import opened
        others = opened(sys.argv[1])
        with others.transaction() as connection:
            for name in "ab":
                connection.root()[name] = PersistentMapping(n=0)
        ours = opened(sys.argv[1])
        with ours.transaction() as connection:
            assert connection.root()["a"]["n"] == connection.root()["b"]["n"] == 0
        for number in range(1, 4):
            with others.transaction() as connection:
                connection.root()["a"]["n"] = number
            with ours.transaction() as connection:
                connection.root()["b"]["n"] = number
            with ours.transaction() as connection:
                seen = [connection.root()[name]["n"] for name in "ab"]
                assert seen == [number, number], seen
        ours.close()
        others.close()
        print("ok")
        """,
        late.uri,
    )
    assert printed == "ok\n"


def test_commits_become_known_in_their_order(late_once: ZEOServer) -> None:
    """One of another client before ours is heard of late, and one after ours at once."""
    printed = run(
        """
        import sys
        import gevent
        from persistent.mapping import PersistentMapping
        from nti.appserver.storage.zeo import io
        from tests.storage.programs import opened
        io.LATE_SECONDS = 60
        def until(condition):
            with gevent.Timeout(20):
                while not condition():
                    gevent.sleep(0.01)
        others = opened(sys.argv[1])
        with others.transaction() as connection:
            for name in "abcd":
                connection.root()[name] = PersistentMapping(n=0)
        ours = opened(sys.argv[1])
        def write(database, name, number):
            with database.transaction() as connection:
                connection.root()[name]["n"] = number
        def seen(database):
            with database.transaction() as connection:
                return [connection.root()[name]["n"] for name in "abcd"]
        assert seen(ours) == [0, 0, 0, 0]
        client = ours.storage._server.client
        write(others, "a", 1)
        committing = [gevent.spawn(write, ours, "b", 1)]
        until(lambda: client._answered)
        committing.append(gevent.spawn(write, others, "c", 1))
        until(lambda: client._held)
        early = seen(ours)
        assert early == [0, 0, 0, 0], early
        open(sys.argv[2], "w").close()
        committing.append(gevent.spawn(write, ours, "d", 1))
        gevent.joinall(committing, timeout=20, raise_error=True)
        assert all(each.ready() for each in committing)
        late = seen(ours)
        assert late == [1, 1, 1, 1], late
        ours.close()
        others.close()
        print("ok")
        """,
        late_once.uri,
        str(late_once.cwd / "go-on"),
    )
    assert printed == "ok\n"


def test_who_catches_up_sees_what_was_committed_before(late: ZEOServer) -> None:
    printed = run(
        """
        import sys
        import gevent
        from tests.storage.programs import opened
        others = opened(sys.argv[1])
        ours = opened(sys.argv[1])
        for number in range(3):
            with others.transaction() as connection:
                connection.root()["n"] = number
            waiting = [gevent.spawn(ours.storage.catch_up) for _ in range(3)]
            gevent.joinall(waiting, timeout=20, raise_error=True)
            with ours.transaction() as connection:
                assert connection.root()["n"] == number
        ours.close()
        others.close()
        print("ok")
        """,
        late.uri,
    )
    assert printed == "ok\n"
