"""ZEO's own tests: python -m tests.storage.zeo_suites stock|ours RESULTS MODULE WITHOUT...

`stock` runs them as they are, `ours` in a patched process with our client. Each
test that has ended is one JSON object, a line of the file RESULTS: its name and what
became of it. Tests whose names end as WITHOUT says are left out. The servers that the
tests start are processes that nothing has patched.

The tests bring a loop of their own, built on asyncio's; in a patched process its
selector and sockets would be gevent's, so the loop is built anew on the unpatched ones.
"""

# ruff: noqa: E402  (patching comes first, as in a worker)

import os
import sys

# The servers' processes import this module too, by another name.
OURS = __name__ == "__main__" and sys.argv[1] == "ours"
os.environ["ZEO_PROCESS_TYPE"] = "spawn"

if OURS:
    from gevent import monkey

    monkey.patch_all()

import asyncio
import importlib
import json
import unittest
from collections.abc import Iterator
from itertools import groupby
from typing import Any

import ZEO.asyncio.client
import ZEO.asyncio.testing as testing


def rebuild_loop() -> None:
    """FaithfulLoop, as ZEO writes it, on asyncio's loop over the unpatched selector and sockets."""

    class NativeLoop(asyncio.SelectorEventLoop):
        def __init__(self) -> None:
            super().__init__(monkey.get_original("selectors", "EpollSelector")())

        def _make_self_pipe(self) -> None:
            import _socket

            kind = monkey.get_original("socket", "socket")
            pair = _socket.socketpair()
            self._ssock, self._csock = (
                kind(end.family, end.type, end.proto, end.detach()) for end in pair
            )
            self._ssock.setblocking(False)
            self._csock.setblocking(False)
            self._internal_fds += 1
            self._add_reader(self._ssock.fileno(), self._read_from_self)

    def __init__(self: Any, addrs: Any = (), debug: bool = True) -> None:
        testing.Loop.__init__(self, addrs, debug)
        NativeLoop.__init__(self)

    unwanted = ("__dict__", "__weakref__", "__init__")
    members = {
        name: value for name, value in vars(testing.FaithfulLoop).items() if name not in unwanted
    }
    members["__init__"] = __init__
    testing.FaithfulLoop = type("FaithfulLoop", (testing.Loop, NativeLoop), members)


def use_our_client() -> None:
    from nti.appserver.storage.zeo import client, thread

    class FutureThread(thread.ClientThread):
        """ZEO.asyncio.tests ask for futures, by an own `io_call`; loads take it here as in ZEO."""

        load_before = ZEO.asyncio.client.ClientThread.load_before

    rebuild_loop()
    client.install()
    ZEO.asyncio.client.ClientThread = FutureThread


class Results(unittest.TestResult):
    """Writes down what becomes of each test, and why."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._file = open(path, "w", buffering=1)  # noqa: SIM115  (open to the end)
        self._outcome, self._why = "passed", ""

    def addError(self, test: Any, err: Any) -> None:
        super().addError(test, err)
        self._outcome, self._why = "failed", self.errors[-1][1]

    def addFailure(self, test: Any, err: Any) -> None:
        super().addFailure(test, err)
        self._outcome, self._why = "failed", self.failures[-1][1]

    def addSkip(self, test: Any, reason: str) -> None:
        super().addSkip(test, reason)
        self._outcome = "skipped"

    def stopTest(self, test: Any) -> None:
        super().stopTest(test)
        line = {"name": str(test), "outcome": self._outcome, "why": self._why}
        self._file.write(json.dumps(line) + "\n")
        self._outcome, self._why = "passed", ""


def flat(suite: Any, layer: Any = None) -> Iterator[tuple[Any, Any]]:
    """Each test of a suite, with the layer (as of zope.testrunner) that it is to run in."""
    layer = getattr(suite, "layer", layer)
    if not isinstance(suite, unittest.TestSuite):
        yield layer, suite
        return
    for each in suite:
        yield from flat(each, layer)


def main(path: str, name: str, without: tuple[str, ...]) -> None:
    results = Results(path)
    module = importlib.import_module(name)
    make = getattr(module, "test_suite", None)
    suite = make() if make else unittest.defaultTestLoader.loadTestsFromModule(module)
    for layer, tests in groupby(flat(suite), key=lambda pair: pair[0]):
        if layer is not None:
            layer.setUp()
        for _, test in tests:
            if not str(test).endswith(without):
                test(results)
        if layer is not None:
            layer.tearDown()


if __name__ == "__main__":
    if OURS:
        use_our_client()
    main(sys.argv[2], sys.argv[3], tuple(sys.argv[4:]))
    os._exit(0)
