"""WebSockets: the protocol, the handshake, and `environ["wsgi.websocket"]`.

`frames`, `deflate`, `protocol` and `handshake` are functions of bytes and run
anywhere; `transport`, `connection` and `middleware` run in the greenlets of a
worker. This file holds the public names only.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nti.appserver.websocket.connection import WebSocket, WebSocketError
    from nti.appserver.websocket.middleware import WebSocketMiddleware

__all__ = ["WebSocket", "WebSocketError", "WebSocketMiddleware"]

_HOMES = {
    "WebSocket": "connection",
    "WebSocketError": "connection",
    "WebSocketMiddleware": "middleware",
}


def __getattr__(name: str) -> Any:
    # Late, so that the protocol can be used where gevent is not.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
