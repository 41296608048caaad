"""Emitting from anywhere in a worker: requests, events, scripts' units of work.

Runs in the greenlet that calls; neither function waits for a client.
"""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nti.appserver.transactions import on_commit

if TYPE_CHECKING:
    from nti.appserver.socketio.server import Server

logger = logging.getLogger("nti.appserver.socketio")

_servers: list["Server"] = []
_warned = False


def use_server(server: "Server") -> None:
    """Have this process's emits go out through `server`; the middleware does it."""
    _servers[:] = [server]


def emit(
    event: str,
    data: Any = None,
    *,
    to: Any = None,
    skip_sid: Any = None,
    namespace: str = "/",
    callback: Callable[..., object] | None = None,
) -> None:
    """Emit an event to clients when the unit of work under way commits.

    It goes out once, in order, however often the unit of work is tried, and
    not at all when it aborts. Where no unit of work runs it goes out at once.

    :param data: what JSON can hold, and bytes; a tuple is several arguments.
    :param to: a client's sid, a room, or a list of rooms; None: everybody.
    :param skip_sid: a sid, or a list of them, that it does not go to.
    :param callback: called with the client's acknowledgement; `to` must be a sid.
    """
    on_commit(_emit, event, data, to, skip_sid, namespace, callback)


def emit_now(
    event: str,
    data: Any = None,
    *,
    to: Any = None,
    skip_sid: Any = None,
    namespace: str = "/",
    callback: Callable[..., object] | None = None,
) -> None:
    """As `emit`, but at once, whatever becomes of the unit of work: for progress, not for facts."""
    _emit(event, data, to, skip_sid, namespace, callback)


def _emit(
    event: str,
    data: Any,
    to: Any,
    skip_sid: Any,
    namespace: str,
    callback: Callable[..., object] | None,
) -> None:
    global _warned
    if _servers:
        _servers[0].emit(
            event, data, to=to, skip_sid=skip_sid, namespace=namespace, callback=callback
        )
    elif not _warned:
        _warned = True
        logger.warning(
            "event %r goes nowhere: this process serves no Socket.IO; "
            "put SocketIOMiddleware around its application",
            event,
        )
