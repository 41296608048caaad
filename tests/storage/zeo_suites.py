"""ZEO's own tests, patched, with our client: python -m tests.storage.zeo_suites MODULE...

The tests bring a loop of their own, built on asyncio's; in a patched process its
selector and sockets would be gevent's, so the loop is built anew on the unpatched ones.
"""

# ruff: noqa: E402  (patching comes first, as in a worker)

from gevent import monkey

monkey.patch_all()

import asyncio
import selectors
import sys
from typing import Any

import ZEO.asyncio.client
import ZEO.asyncio.testing as testing

from nti.appserver.storage.zeo import client, thread


class NativeLoop(asyncio.SelectorEventLoop):
    """asyncio's loop on the unpatched selector; its pipe to itself is one of native sockets."""

    def __init__(self) -> None:
        super().__init__(_native_selector())

    def _make_self_pipe(self) -> None:
        import _socket

        kind = monkey.get_original("socket", "socket")
        ours, theirs = _socket.socketpair()
        self._ssock = kind(ours.family, ours.type, ours.proto, ours.detach())
        self._csock = kind(theirs.family, theirs.type, theirs.proto, theirs.detach())
        self._ssock.setblocking(False)
        self._csock.setblocking(False)
        self._internal_fds += 1
        self._add_reader(self._ssock.fileno(), self._read_from_self)


def _native_selector() -> Any:
    try:
        return monkey.get_original("selectors", "EpollSelector")()
    except AttributeError:
        return selectors.EpollSelector()


def rebuild_loop() -> None:
    """FaithfulLoop, as ZEO writes it, on our base."""
    faithful = testing.FaithfulLoop
    members = {
        name: value
        for name, value in vars(faithful).items()
        if name not in ("__dict__", "__weakref__", "__init__")
    }
    testing.AsyncioLoop = NativeLoop

    def __init__(self: Any, addrs: Any = (), debug: bool = True) -> None:
        testing.Loop.__init__(self, addrs, debug)
        NativeLoop.__init__(self)

    members["__init__"] = __init__
    testing.FaithfulLoop = type("FaithfulLoop", (testing.Loop, NativeLoop), members)


class FutureThread(thread.ClientThread):
    """ZEO.asyncio.tests ask for futures, by an own `io_call`; loads take it here as in ZEO."""

    load_before = ZEO.asyncio.client.ClientThread.load_before


def main() -> None:
    rebuild_loop()
    client.install()
    ZEO.asyncio.client.ClientThread = FutureThread
    from zope.testrunner import run

    arguments = ["--test-path", next(iter(ZEO.__path__)).rpartition("/")[0]]
    for module in sys.argv[1:]:
        arguments += ["-m", module]
    run(["--tests-pattern", "^tests?(Z.*)?$", "-v", *arguments], ["zope-testrunner"])


if __name__ == "__main__":
    main()
