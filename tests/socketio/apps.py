"""What the functional tests serve at /socket.io/.

Imported by the worker of the server under test, never by the tests.
"""

import contextlib
import json
import os

import gevent
import socketio
import transaction
from transaction.interfaces import TransientError

from nti.appserver.settings import load_settings
from nti.appserver.socketio import (
    ConnectionRefusedError,
    Namespace,
    SocketIOMiddleware,
    emit,
    emit_now,
)
from nti.appserver.transactions import run
from nti.appserver.websocket import WebSocketMiddleware
from tests.websocket.lending import Lender

#: What handlers have noted, for the tests to read over HTTP.
notes: list[object] = []


class Room(Namespace):
    """Rooms, acknowledgements, binary data."""

    def on_connect(self, sid, environ, auth):
        self.enter_room(sid, "all")
        self.emit("welcome", {"auth": auth, "path": environ["PATH_INFO"]}, to=sid)

    def on_say(self, sid, *args):
        self.emit("said", args, room="all")
        return ("heard", len(args))

    def on_others(self, sid, text):
        self.emit("said", text, room="all", skip_sid=sid)

    def on_leave(self, sid):
        self.leave_room(sid, "all")
        return self.rooms(sid)

    def on_ask(self, sid, number):
        """Waits for the client's own answer within its event."""
        return self.call("question", number, to=sid, timeout=10)

    def on_pid(self, sid):
        return os.getpid()

    def on_kick(self, sid):
        self.disconnect(sid)

    def on_disconnect(self, sid, reason):
        notes.append(["gone", self.namespace, reason])


class Units(Namespace):
    """Every event is a unit of work."""

    tries: dict[str, int] = {}

    def on_connect(self, sid, environ, auth=None):
        auth = auth or {}
        if auth.get("conflicts"):
            self._conflict("connect", auth["conflicts"])
        self.emit("entered", to=sid)
        if auth.get("refuse") == "false":
            return False
        if auth.get("refuse") == "error":
            raise ConnectionRefusedError("not you", {"code": 7})
        if auth.get("refuse") == "bug":
            raise ZeroDivisionError("on purpose")
        return None

    def _conflict(self, name, times):
        count = self.tries[name] = self.tries.get(name, 0) + 1
        if count <= times:
            raise TransientError(f"try {count}")

    def on_conflict(self, sid, name, times):
        """Conflicts so many times; its emits go out once."""
        emit_now("progress", to=sid, namespace=self.namespace)
        self.emit("first", name, to=sid)
        self._conflict(name, times)
        self.emit("second", name, to=sid)
        return self.tries[name]

    def on_fail(self, sid):
        self.emit("never", to=sid)
        raise RuntimeError("on purpose")

    def on_doom(self, sid):
        self.emit("never", to=sid)
        transaction.doom()

    def on_slow(self, sid, number):
        gevent.sleep(0.001)
        notes.append(["slow", number])


class Plain(socketio.Namespace):
    """python-socketio's own class, with its older signatures."""

    def on_connect(self, sid, environ):
        self.emit("hello", to=sid)

    def on_echo(self, sid, data):
        return data

    def on_disconnect(self, sid):
        notes.append(["plain gone"])


def site(environ, start_response):
    """Emits, and tells what was noted."""
    path = environ["PATH_INFO"]
    if path == "/emit":
        emit("news", environ["QUERY_STRING"], to="all")
    elif path == "/unit":
        run(emit, "news", environ["QUERY_STRING"])
    elif path == "/aborted":
        with contextlib.suppress(RuntimeError):
            run(_emit_and_fail)
    elif path == "/binary":
        emit("data", b"\x00\xff", to="all")
    elif path == "/flood":
        for _number in range(200):
            emit_now("news", "x" * 10_000, to=environ["QUERY_STRING"])
    body = json.dumps(told(path, environ["QUERY_STRING"])).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


def told(path, query):
    """What was noted, or something of the sessions."""
    sessions = sockets.server.eio.sessions
    if path == "/sessions":
        return len(sessions)
    if path == "/polls":
        return query in sessions and sessions[query]._polling
    return notes


def _emit_and_fail():
    emit("news", "aborted")
    emit_now("news", "at once")
    raise RuntimeError("on purpose")


sockets = SocketIOMiddleware(
    site,
    [Room(), Room("/other"), Units("/units"), Plain("/plain")],
    load_settings(environ=os.environ),
)
app = WebSocketMiddleware(sockets)
lent = Lender(app)
