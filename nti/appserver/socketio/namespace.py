"""Namespaces whose every event is a unit of work.

Handlers run in greenlets of the worker, one event of a client after another.
They run inside `nti.appserver.transactions.run`, so they run again with the
same arguments when they conflict.
"""

from collections.abc import Callable
from typing import Any

import socketio
from socketio.exceptions import ConnectionRefusedError as Refusal

from nti.appserver.socketio.arguments import fitting
from nti.appserver.socketio.emitting import emit
from nti.appserver.transactions import on_commit, run


class Namespace(socketio.Namespace):  # type: ignore[misc]
    """A Socket.IO namespace over ZODB: subclass it and write `on_EVENT` methods.

    `on_connect(sid, environ, auth)` may return False or raise
    `ConnectionRefusedError(message, data)` to keep the client out; then its
    unit of work aborts. `on_disconnect(sid, reason)` and `on_EVENT(sid, *args)`
    are units of work too. What an `on_EVENT` returns acknowledges the event,
    after the commit.

    `emit`, `send` and `disconnect` take effect when the unit of work commits,
    in order and once, however often it is tried; `enter_room` and `leave_room`
    at once. `call` waits for the client and is therefore sent at once.

    :param namespace: its name, "/" when not given.
    """

    #: How often a handler is tried; None: the setting `attempts`.
    attempts: int | None = None

    def trigger_event(self, event: str, *args: Any) -> Any:
        """Run the handler of an event as a unit of work; what it returned."""
        handler = getattr(self, f"on_{event}", None)
        if handler is None:
            return None if event in ("connect", "disconnect") else self.server.not_handled
        if event == "connect":
            return run(_connect, handler, *args, attempts=self.attempts)
        if event == "disconnect":
            args = fitting(handler, args)
        return run(handler, *args, attempts=self.attempts)

    def emit(
        self,
        event: str,
        data: Any = None,
        to: Any = None,
        room: Any = None,
        skip_sid: Any = None,
        namespace: str | None = None,
        callback: Callable[..., object] | None = None,
        ignore_queue: bool = False,
    ) -> None:
        """As `nti.appserver.socketio.emit`, in this namespace where none is given."""
        emit(
            event,
            data,
            to=to if to is not None else room,
            skip_sid=skip_sid,
            namespace=namespace or self.namespace,
            callback=callback,
        )

    def send(self, data: Any, to: Any = None, room: Any = None, **options: Any) -> None:
        """Emit the event "message"."""
        self.emit("message", data, to, room, **options)

    def disconnect(self, sid: str, namespace: str | None = None) -> None:
        """Have a client leave this namespace, when the unit of work commits."""
        on_commit(self.server.disconnect, sid, namespace or self.namespace)


def _connect(handler: Callable[..., Any], *args: Any) -> Any:
    """Ask a connect handler; a refusal is raised, so that the unit of work aborts."""
    if handler(*args) is False:
        raise Refusal
    return None
