"""Connections that go to another worker, and those that come from one.

Before a request is served, its worker is asked for. What another owns goes
there as it came: the descriptor, the bytes read since the request began, and
what is known of the peer. There it is dispatched as if it had just been read.
Where the other worker does not take it, this one serves it.

`gives` runs in the greenlet that serves the connection and may switch, `_adopt`
on the hub.
"""

import _socket
import os
import random
from collections.abc import Sequence
from typing import Any

from nti.appserver.handover.folder import SUFFIX, Folder, folder_for
from nti.appserver.handover.names import ANY, Route, worker_name
from nti.appserver.handover.passing import Description, Receiver, pass_on
from nti.appserver.http.connection import Connection
from nti.appserver.hub.descriptors import disregard
from nti.appserver.metrics import Counter

#: The PROXY protocol's second version: its signature, and the bytes before its addresses.
_PROXY_2 = b"\r\n\r\n\x00\r\nQUIT\n"
_PROXY_2_SIZE = 16

#: Workers that are asked to take a connection which any of them may have.
TRIED = 4

given = Counter(
    "appserver_connections_handed_over_total",
    "Client connections given to the worker that their request belongs to.",
)
kept = Counter(
    "appserver_connections_kept_total",
    "Client connections whose request belongs to a worker that is gone, or has no room.",
)


class Handover:
    """This worker's part in handing connections over.

    :param server: the `HTTPServer`.
    :param route: says which requests, and to whom.
    """

    def __init__(self, server: Any, route: Route) -> None:
        self.mark = route.mark
        self._owner = route.owner
        self._server = server
        self._folder = Folder(folder_for(server.settings, "handover"))
        self._own = worker_name() + SUFFIX
        self._receiver = Receiver(self._folder, self._own, self._has_room, self._take)

    def start(self) -> None:
        """Take connections from now on; where that cannot be, say so and serve all the same."""
        try:
            self._receiver.start()
        except OSError as problem:
            self._server.log.error(
                "connections of other workers are not taken (%s: %s): clients that poll may lose "
                "their session; set runtime_dir to a folder that the workers may write",
                self._folder.path,
                problem.strerror or problem,
            )

    def stop(self) -> None:
        """Take no more; giving goes on."""
        self._receiver.stop()

    # -- giving

    def gives(self, conn: Connection, data: bytes) -> bool:
        """Whether the connection with its request has gone to another worker."""
        if conn.listener.tls is not None:
            return False
        for name in self._candidates(conn, data):
            if name == self._own:
                return False
            if self._give(conn, name, data):
                return True
        return False

    def gives_idle(self, conn: Connection) -> bool:
        """Whether an idle connection has gone to any other worker, for when this one ends.

        What its peer sends meanwhile stays in the kernel, for the worker that reads it next.
        """
        return any(self._give(conn, name, b"") for name in self._anyone() if name != self._own)

    def _give(self, conn: Connection, name: str, data: bytes) -> bool:
        if not pass_on(self._folder, name, conn.sock.fileno(), _described(conn), data):
            kept.inc()
            return False
        given.inc()
        conn.unwatch()
        disregard(conn.listener.loop, conn.sock.fileno())
        conn.close()
        return True

    def _candidates(self, conn: Connection, data: bytes) -> Sequence[str]:
        """The sockets of workers that may serve the request, the first one first.

        A worker that drains takes no connections, so its own is not among them.
        """
        proxied = not (conn.seen or conn.listener.fast_first)
        owner = self._owner(_past_proxy(data) if proxied else data)
        if owner != ANY:
            return (owner + SUFFIX,) if owner else ()
        return self._anyone()

    def _anyone(self) -> Sequence[str]:
        names = self._folder.names()
        return random.sample(names, min(len(names), TRIED))

    # -- taking

    def _has_room(self) -> bool:
        return not self._server.full()

    def _take(self, descriptor: int, description: Description, data: bytes) -> None:
        sock = _socket.socket(fileno=descriptor)
        sock.setblocking(False)
        self._server.loop.run_callback(self._adopt, sock, description, data)

    def _adopt(self, sock: Any, description: Description, data: bytes) -> None:
        """Hub: serve what another worker has read."""
        peer = description["peer"]
        listener = self._listener(description["listener"])
        conn = Connection(listener, sock, tuple(peer) if isinstance(peer, list) else peer)
        conn.seen = description["seen"]
        conn.proxy = description["proxy"]
        self._server.adopt(conn, data)

    def _listener(self, name: Any) -> Any:
        """The listener of that address; after a change of `bind` perhaps only one of its kind."""
        listeners = self._server.listeners
        alike = [it for it in listeners if isinstance(it.name, tuple) == isinstance(name, list)]
        for listener in alike:
            if _plain(listener.name) == name:
                return listener
        return (alike or listeners)[0]


def _described(conn: Connection) -> Description:
    return {
        "listener": _plain(conn.listener.name),
        "peer": _plain(conn.peer),
        "seen": conn.seen,
        "proxy": conn.proxy,
    }


def _plain(address: Any) -> Any:
    """An address as JSON gives it back: a list, or a text."""
    if isinstance(address, tuple):
        return list(address)
    return os.fsdecode(address) if isinstance(address, bytes) else address


def _past_proxy(data: bytes) -> bytes:
    """The request behind a PROXY header, where there is one."""
    if data.startswith(_PROXY_2):
        size = _PROXY_2_SIZE + int.from_bytes(data[14:16], "big")
        return data[size:]
    return data.partition(b"\r\n")[2] if data.startswith(b"PROXY ") else data
