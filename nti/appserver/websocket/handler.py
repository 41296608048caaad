"""What gevent-websocket's applications find at `ws.handler`.

Its chat example and others reach the site's other WebSockets through
`ws.handler.server.clients`, and themselves through `ws.handler.active_client`.
Only that view lives here. Everything runs in the greenlets of one worker, and
nothing switches.
"""

import logging
from dataclasses import dataclass
from typing import Any

logger = logging.getLogger("nti.appserver.websocket")


@dataclass(frozen=True, slots=True)
class Client:
    """One WebSocket of this worker.

    :param address: the peer's (host, port), or a text where it has none.
    """

    address: Any
    ws: Any


class Server:
    """The worker as gevent-websocket's server object shows it.

    :param application: what serves the WebSockets.
    """

    def __init__(self, application: Any) -> None:
        self.application = application
        self.logger = logger
        self.clients: dict[Any, Client] = {}


class Handler:
    """One WebSocket's place in its server.

    :param ws: the WebSocket.
    """

    __slots__ = ("client_address", "environ", "server", "websocket")

    def __init__(self, server: Server, ws: Any) -> None:
        self.server = server
        self.websocket = ws
        self.environ = ws.environ
        address: Any = (ws.environ.get("REMOTE_ADDR", ""), ws.environ.get("REMOTE_PORT", ""))
        # Behind a unix socket all peers look alike.
        self.client_address = address if all(address) else f"{address[0]}#{id(ws):x}"

    @property
    def logger(self) -> logging.Logger:
        return logger

    @property
    def application(self) -> Any:
        return self.server.application

    @property
    def active_client(self) -> Client:
        return self.server.clients[self.client_address]

    def enter(self) -> None:
        """Add the WebSocket to the server's clients."""
        self.server.clients[self.client_address] = Client(self.client_address, self.websocket)

    def leave(self) -> None:
        """Take it out again."""
        self.server.clients.pop(self.client_address, None)
