"""What the fronts' tests serve: the request as the application saw it, a stream, a WebSocket."""

import json
from collections.abc import Iterable, Iterator
from threading import Event
from typing import Any

from nti.appserver.websocket import WebSocketMiddleware

#: Set by a request for `/dataserver2/go`; the stream holds its second chunk back until then.
GO = Event()
GO_SECONDS = 20


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
    if environ["PATH_INFO"] == "/dataserver2/stream":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return stream()
    if environ["PATH_INFO"] == "/dataserver2/go":
        GO.set()
    seen = {key: value for key, value in environ.items() if isinstance(value, str)}
    seen["body"] = environ["wsgi.input"].read().decode()
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(seen).encode()]


app = WebSocketMiddleware(answer)
