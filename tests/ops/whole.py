"""A whole site with units of work, WebSockets and Socket.IO, for tests of operations.

Imported by the workers of the server under test, never by the tests.
"""

import logging
import os
from collections.abc import Iterable
from typing import Any

import gevent
from transaction.interfaces import TransientError

from nti.appserver.socketio import Namespace
from nti.appserver.transactions import connection

log = logging.getLogger("site")


class Talk(Namespace):  # type: ignore[misc]
    """Events that are told to everybody, and stored."""

    def on_connect(self, sid: str, environ: dict[str, Any], auth: Any) -> None:
        self.enter_room(sid, "all")

    def on_say(self, sid: str, text: str) -> int:
        log.warning("said %s", text)
        connection().root()["said"] = text
        self.emit("said", text, room="all")
        return os.getpid()


talk = Talk("/")


def site(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """/ws echoes; POST stores a number under the path and /conflict meets one conflict first;
    /hold leases a connection until a file is there; /undo tells the stored transactions; else the
    stored number is told, by which worker."""
    path = environ["PATH_INFO"]
    websocket = environ.get("wsgi.websocket")
    if websocket is not None:
        while (message := websocket.receive()) is not None:
            websocket.send(message)
        return []
    root = connection().root()
    if path == "/conflict" and not environ["retry.attempt"]:
        raise TransientError("on purpose")
    if environ["REQUEST_METHOD"] == "POST":
        root[path] = root.get(path, 0) + 1
    while path == "/hold" and not os.path.exists("enough"):
        gevent.sleep(0.05)
    body = str(root.get(path, 0))
    if path == "/undo":
        body = "\n".join(str(each.get("request_id")) for each in root._p_jar.db().undoInfo(0, 5))
    start_response("200 OK", [("Content-Type", "text/plain"), ("X-Worker", str(os.getpid()))])
    return [body.encode()]
