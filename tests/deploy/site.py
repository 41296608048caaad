"""The application behind every front: it tells what it saw, streams, stays silent, chats.

Runs in gunicorn's worker, patched. The tests read its answers through the fronts.
"""

import json
import os
from collections.abc import Iterable, Iterator
from threading import Event
from time import sleep
from typing import Any

import socketio

#: Set by a request for `/dataserver2/go`; the stream holds its second chunk back until then.
GO = Event()
GO_SECONDS = 20

POLICY = "sandbox allow-scripts"


def stream() -> Iterator[bytes]:
    GO.clear()
    yield b"first"
    yield b"second" if GO.wait(GO_SECONDS) else b"nobody saw the first"


def answer(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    websocket = environ.get("wsgi.websocket")
    if websocket is not None:
        while (message := websocket.receive()) is not None:
            websocket.send(message)
        return []
    path = environ["PATH_INFO"]
    if path == "/dataserver2/stream":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return stream()
    if path == "/dataserver2/go":
        GO.set()
    if path == "/dataserver2/silent":
        sleep(float(environ["QUERY_STRING"]))
    # What nginx compresses unless it is told otherwise.
    kind = [("Content-Type", "text/html")]
    if path.startswith("/library/"):
        kind.append(("Content-Security-Policy", POLICY))
    start_response("200 OK", kind)
    return [json.dumps(seen(environ)).encode()]


def seen(environ: dict[str, Any]) -> dict[str, Any]:
    """The request's environ as far as it is text, its body, and where it came in."""
    found = {key: value for key, value in environ.items() if isinstance(value, str)}
    found["body"] = environ["wsgi.input"].read().decode()
    found["peer"] = str(environ["nti.appserver.connection"].peer)
    found["pid"] = os.getpid()
    return found


class Chat(socketio.Namespace):
    """What one says, all hear."""

    def on_say(self, sid: str, text: str) -> int:
        self.emit("said", text)
        return os.getpid()
