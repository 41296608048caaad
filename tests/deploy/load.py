"""Requests without a pause while something happens to the site: what got lost is told.

Runs in the process of the tests, a thread for each way of asking.
"""

import contextlib
import json
import threading
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException
from types import TracebackType

from nti.appserver.testing.process import wait_until

#: Between requests: two cores carry the servers as well.
PAUSE_SECONDS = 0.03


class Load:
    """GET and POST requests, on connections that stay and on new ones; a context manager.

    :param connect: makes a connection, not yet open.
    :param kept: whether some connections stay open between requests. A client that
        keeps one to a server that goes away must expect its end, so only fronts,
        which stay, are asked that way.

    State: `problems` are the requests that were not answered with a 200, `pids`
    counts the answers of each worker.
    """

    def __init__(self, connect: Callable[[], HTTPConnection], *, kept: bool = True) -> None:
        self.connect = connect
        self.problems: list[str] = []
        self.pids: dict[int, int] = {}
        self._over = threading.Event()
        ways = [(method, keep) for method in ("GET", "POST") for keep in {kept, False}]
        self._threads = [threading.Thread(target=self._ask, args=way, daemon=True) for way in ways]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        wait_until(lambda: sum(self.pids.values()) > len(self._threads), "requests are answered")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(60)

    def _ask(self, method: str, keep: bool) -> None:
        number = 0
        with contextlib.ExitStack() as stack:
            connection = stack.enter_context(contextlib.closing(self.connect()))
            while not self._over.is_set():
                number += 1
                text = f"{method} {number}"
                try:
                    self._one(connection, method, text)
                except (OSError, HTTPException, ValueError) as problem:
                    self.problems.append(f"{text}, kept {keep}: {problem!r}")
                    connection.close()
                if not keep:
                    connection.close()  # http.client opens it again
                self._over.wait(PAUSE_SECONDS)

    def _one(self, connection: HTTPConnection, method: str, text: str) -> None:
        body = text if method == "POST" else None
        connection.request(method, "/dataserver2/x", body)
        response = connection.getresponse()
        answer = response.read()
        if response.status != 200:
            raise ValueError(f"{response.status}: {answer[:200]!r}")
        found = json.loads(answer)
        if found["body"] != (body or ""):
            raise ValueError(f"the body was {found['body']!r}")
        self.pids[found["pid"]] = self.pids.get(found["pid"], 0) + 1

    def wait_for_another(self, old: set[int]) -> None:
        """Return when a worker that is not in `old` has answered a few requests."""

        def answered() -> bool:
            return sum(count for pid, count in dict(self.pids).items() if pid not in old) > 20

        wait_until(answered, "new workers answer", seconds=60)
