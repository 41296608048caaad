"""Invalidations that come late: after the answer to a later commit, as from a server on uvloop."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nti.appserver.testing.patched import run
from nti.appserver.testing.zeo import ZEOServer

#: runzeo whose invalidations leave half a second late, and whose answers do not.
LATE = """
from ZEO.asyncio import server

def async_threadsafe(self, method, *arguments):
    late = 0.5 if method == "invalidateTransaction" else 0
    self.loop.call_later(late, self.call_async, method, arguments)

server.ServerProtocol.async_threadsafe = async_threadsafe
from ZEO.runzeo import main
main()
"""


@pytest.fixture
def late(tmp_path: Path) -> Iterator[ZEOServer]:
    server = ZEOServer(tmp_path)
    server.command = [sys.executable, "-c", LATE, *server.command[3:]]
    with server:
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
