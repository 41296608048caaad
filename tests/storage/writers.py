"""Clients of a site that go on writing whatever happens, each time with a key of its own."""

import http.client
import json
import threading
import time
from dataclasses import dataclass
from types import TracebackType

from nti.appserver.testing.process import wait_until
from tests.storage.sites import Site

#: What `Writers` write to: a set of keys, and a counter that must be as large as the set.
APPLICATION = """
import json
from BTrees.OOBTree import OOTreeSet
from nti.appserver.transactions import connection

def keys(environ, start_response):
    root = connection().root()
    if environ["REQUEST_METHOD"] == "POST":
        if "keys" not in root:
            root["keys"], root["count"] = OOTreeSet(), 0
        root["keys"].insert(environ["PATH_INFO"][1:])
        root["count"] += 1
        body = b"written"
    else:
        body = json.dumps([root.get("count", 0), list(root.get("keys", ()))]).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]

def main():
    return keys
"""

#: Seconds without an answer after which a request counts as one that hangs.
HANGS_SECONDS = 60.0

IN_DOUBT = b"not known"


@dataclass(frozen=True)
class Write:
    """One request: its key, the answer, and how long that took."""

    key: str
    status: int
    body: bytes
    began: float
    seconds: float


class Writers:
    """So many threads that write to a site while the context lasts.

    :ivar writes: those that have been answered.
    :ivar broken: what went wrong otherwise: a connection closed, no answer in time.
    """

    def __init__(self, site: Site, count: int = 6) -> None:
        self.writes: list[Write] = []
        self.broken: list[str] = []
        self._site = site
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._write, args=(f"writer{number}",))
            for number in range(count)
        ]

    def __enter__(self) -> "Writers":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(2 * HANGS_SECONDS)
        assert not any(thread.is_alive() for thread in self._threads)

    def _write(self, name: str) -> None:
        number = 0
        while not self._over.is_set():
            number += 1
            key = f"{name}-{number}"
            began = time.monotonic()
            try:
                status, body = self._post(key)
            except (OSError, http.client.HTTPException) as problem:
                self.broken.append(f"{key} after {time.monotonic() - began:.1f} s: {problem!r}")
                continue
            self.writes.append(Write(key, status, body, began, time.monotonic() - began))
            if status != 200:
                time.sleep(0.05)

    def _post(self, key: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self._site.port, timeout=HANGS_SECONDS)
        try:
            connection.request("POST", f"/{key}")
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def acknowledged(self) -> int:
        return sum(write.status == 200 for write in self.writes)

    def since(self, moment: float) -> list[Write]:
        """Writes that were answered after a moment of `time.monotonic()`."""
        return [write for write in self.writes if write.began + write.seconds > moment]

    def check(self) -> None:
        """Compare what was answered with what is there: all that was told is so, and no more.

        A worker hears of what others commit a moment later, so it is asked until it knows.
        """
        assert not self.broken, self.broken[:5]
        other = [write for write in self.writes if write.status not in (200, 503)]
        assert not other, f"{other[:3]}\n{self._site.output()}"
        told = {write.key for write in self.writes if write.status == 200}
        doubtful = {write.key for write in self.writes if IN_DOUBT in write.body}
        kept: set[str] = set()

        def all_is_there() -> bool:
            nonlocal kept
            count, keys = stored(self._site)
            kept = set(keys)
            assert count == len(kept), "the counter is off"
            return told <= kept

        wait_until(all_is_there, "no acknowledged commit is lost")
        assert kept <= told | doubtful, "a commit was made that its client was told is not"


def stored(site: Site) -> tuple[int, list[str]]:
    """The counter and the keys, as a worker sees them."""
    status, body = site.ask("GET")
    assert status == 200, body
    count, keys = json.loads(body)
    return count, keys
