"""The site of the soak: every kind of traffic, each piece of work counted in the database.

A counter is a bucket of one traffic's own, so that conflicts are between
clients of one kind. What a client was told is committed: the soak compares.
"""

from collections.abc import Iterable
from typing import Any

from BTrees.OOBTree import OOBTree

from nti.appserver.socketio import Namespace
from nti.appserver.transactions import connection, run

CHUNK = b"0123456789abcdef" * 256


def count(name: str) -> int:
    """Count one more under this name; the number reached. Inside a unit of work."""
    root = connection().root()
    counts = root.get("counts")
    if counts is None:
        counts = root["counts"] = OOBTree()
    counts[name] = counts.get(name, 0) + 1
    return int(counts[name])


def total(name: str) -> int:
    """The number reached under this name. Inside a unit of work."""
    return int(connection().root().get("counts", {}).get(name, 0))


class Counting(Namespace):  # type: ignore[misc]
    """Events that count, each a unit of work; everyone hears of it after its commit."""

    def on_connect(self, sid: str, environ: dict[str, Any], auth: Any) -> None:
        self.enter_room(sid, "all")

    def on_count(self, sid: str, name: str) -> int:
        """Count under `name`; the answer is the number reached."""
        number = count(name)
        self.emit("counted", number, room="all")
        return number


counting = Counting("/")


def site(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """/count?NAME counts with POST and tells with GET; /stream streams; /ws answers messages."""
    path, name = environ["PATH_INFO"], environ["QUERY_STRING"]
    websocket = environ.get("wsgi.websocket")
    if websocket is not None:
        while (message := websocket.receive()) is not None:
            websocket.send(str(run(count, message)))
        return []
    if path == "/stream":
        start_response("200 OK", [("Content-Type", "application/octet-stream")])
        return (CHUNK for _ in range(50))
    number = count(name) if environ["REQUEST_METHOD"] == "POST" else total(name)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(number).encode()]
