"""An application whose events take their time over what they store.

Imported by the worker of the server under test, never by the tests.
"""

import os

import gevent

from nti.appserver.socketio import Namespace, emit_now
from nti.appserver.transactions import connection


class Slow(Namespace):
    """Events are units of work."""

    def on_store(self, sid, until):
        """Read, wait until a file is there, write."""
        root = connection().root()
        stored = root.get("stored", 0)
        emit_now("storing", to=sid)
        while not os.path.exists(until):
            gevent.sleep(0.05)
        root["stored"] = stored + 1

    def on_disconnect(self, sid, reason):
        connection().root()["left"] = reason


slow = Slow("/")


def site(environ, start_response):
    """What has been stored."""
    root = connection().root()
    body = f"{root.get('stored', 0)} {root.get('left')}".encode()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [body]
