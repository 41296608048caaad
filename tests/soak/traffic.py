"""Clients that never tire: HTTP, WebSocket and Socket.IO, each in a thread of its own.

A client goes on over reloads as a browser does: a WebSocket closed with 1001 or
1012 is opened again, a Socket.IO session that has ended is begun again. All else
is an error, and is kept. `Tally` says what was acknowledged and what may or may
not have been done when a connection ended.
"""

import contextlib
import http.client
import re
import socket
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from nti.appserver.testing.socketio import Ended, RequestFailed, SocketIO
from nti.appserver.testing.websocket import Closed, HandshakeRefused, WebSocket

#: Going away and service restart (RFC 6455, section 7.4.1, and its registry).
POLITE = (1001, 1012)

#: How a Socket.IO session ends when its worker does: Engine.IO's close, the codes above, or, where
#: the client was between two polls, that the session is no more. Its clients connect anew by all.
TOLD = re.compile(
    r"has ended: (close$|closed (1001|1012)$|(1001|1012) )|\b400: .*Session ID unknown"
)

STREAM_BYTES = 50 * 4096


@dataclass
class Tally:
    """What all clients have seen; a client touches its own kind's entries alone."""

    acknowledged: Counter[str] = field(default_factory=Counter)
    #: Work that was asked for when its connection ended: done or not.
    unknown: Counter[str] = field(default_factory=Counter)
    reconnects: Counter[str] = field(default_factory=Counter)
    #: Sessions that changed from polling to a WebSocket.
    upgrades: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)


class Client(threading.Thread):
    """A thread that works until `stopping` is set; its subclass knows how."""

    def __init__(self, kind: str, port: int, tally: Tally, stopping: threading.Event) -> None:
        super().__init__(name=kind, daemon=True)
        self.kind = kind
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.tally = tally
        self.stopping = stopping

    def run(self) -> None:
        """Work on; an error is kept and does not end the client."""
        while not self.stopping.is_set():
            try:
                self.work()
            except Exception:
                self.tally.errors.append(f"{self.kind}: {traceback.format_exc()}")
                self.stopping.wait(0.5)

    def work(self) -> None:
        """A connection's life, or a piece of it."""
        raise NotImplementedError

    def pause(self) -> None:
        """As a person does, though a hasty one."""
        self.stopping.wait(0.01)


class HTTPClient(Client):
    """Keeps a connection, as browsers do: reads, streams, and every third time writes."""

    def work(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(connection):
            connection.connect()
            used = 0
            while not self.stopping.is_set():
                if not self._one(connection, used):
                    return
                used += 1
                self.pause()

    def _one(self, connection: http.client.HTTPConnection, used: int) -> bool:
        """One request; whether the connection can be used again."""
        method, path = (("GET", f"/count?{self.kind}"), ("GET", "/stream"))[used % 2]
        if not used % 3:
            method, path = "POST", f"/count?{self.kind}"
        if used and method == "POST":
            # A POST is not sent where a close may already be under way (RFC 9112, section 9.3.1).
            return False
        try:
            connection.request(method, path)
            response = connection.getresponse()
        except (ConnectionError, http.client.RemoteDisconnected):
            if not used:
                raise
            self.tally.reconnects[self.kind] += 1
            return False
        body = response.read()
        assert response.status == 200, (response.status, body[:200])
        assert path != "/stream" or len(body) == STREAM_BYTES, len(body)
        self.tally.acknowledged[self.kind] += method == "POST"
        return not response.will_close


class WebSocketClient(Client):
    """Each message counts, and its answer says so."""

    def work(self) -> None:
        asked = False
        try:
            with WebSocket(f"{self.url.replace('http', 'ws')}/ws") as websocket:
                while not self.stopping.is_set():
                    asked = True
                    websocket.send(self.kind)
                    websocket.receive(30)
                    asked = False
                    self.tally.acknowledged[self.kind] += 1
                    self.pause()
        except (Closed, ConnectionError) as closed:
            self.tally.unknown[self.kind] += asked
            self.tally.reconnects[self.kind] += 1
            if not isinstance(closed, Closed) or closed.code not in POLITE:
                raise


class SocketIOClient(Client):
    """Each event counts, and its acknowledgement says so."""

    transport = "websocket"

    def work(self) -> None:
        asked = False
        try:
            with SocketIO(self.url, transport=self.transport) as client, self.beside(client):
                while not self.stopping.is_set():
                    asked = True
                    client.call("count", self.kind, timeout=30)
                    asked = False
                    self.tally.acknowledged[self.kind] += 1
                    client.pending()
                    self.pause()
        except (Ended, RequestFailed) as ended:
            self.tally.unknown[self.kind] += asked
            self.tally.reconnects[self.kind] += 1
            if not TOLD.search(str(ended)):
                raise

    def beside(self, client: SocketIO) -> contextlib.AbstractContextManager[object]:
        """What else the client does meanwhile."""
        return contextlib.nullcontext()


class PollingClient(SocketIOClient):
    """The same by long polls."""

    transport = "polling"


class UpgradingClient(SocketIOClient):
    """Begins by long polls and changes to a WebSocket while its events are under way."""

    transport = "polling"

    @contextlib.contextmanager
    def beside(self, client: SocketIO) -> Iterator[None]:
        upgrading = threading.Thread(target=self._upgrade, args=(client,), daemon=True)
        upgrading.start()
        try:
            yield
        finally:
            upgrading.join(30)

    def _upgrade(self, client: SocketIO) -> None:
        """Change over; where the worker ends just then, the polls say so, too."""
        try:
            client.upgrade()
            self.tally.upgrades[self.kind] += 1
        except (Ended, Closed, HandshakeRefused) as ended:
            if not TOLD.search(str(ended)):
                self.tally.errors.append(f"{self.kind}: {traceback.format_exc()}")
        except Exception:
            self.tally.errors.append(f"{self.kind}: {traceback.format_exc()}")


CLIENTS: tuple[Callable[..., Client], ...] = (
    HTTPClient,
    WebSocketClient,
    SocketIOClient,
    PollingClient,
    UpgradingClient,
)


def start(port: int, tally: Tally, stopping: threading.Event, each: int) -> list[Client]:
    """`each` clients of every kind, begun."""
    clients = [
        make(f"{make.__name__}-{number}", port, tally, stopping)  # type: ignore[attr-defined]
        for make in CLIENTS
        for number in range(each)
    ]
    for client in clients:
        client.start()
    return clients


def counted(port: int, kind: str) -> int:
    """What the database says of a kind."""
    connection: Any = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    with contextlib.closing(connection), contextlib.suppress(socket.timeout):
        connection.request("GET", f"/count?{kind}")
        return int(connection.getresponse().read())
    raise AssertionError(f"no answer to what {kind} counted")
