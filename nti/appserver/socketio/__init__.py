"""Socket.IO: Engine.IO sessions and their transports, namespaces, emits.

`packets` is sans-I/O; everything else runs in the greenlets of a worker and is
imported after patching only. This file holds the public names.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from socketio.exceptions import ConnectionRefusedError

    from nti.appserver.socketio.emitter import Emitter
    from nti.appserver.socketio.emitting import emit, emit_now
    from nti.appserver.socketio.middleware import SocketIOMiddleware
    from nti.appserver.socketio.namespace import Namespace

__all__ = [
    "ConnectionRefusedError",
    "Emitter",
    "Namespace",
    "SocketIOMiddleware",
    "emit",
    "emit_now",
]

_HOMES = {
    "ConnectionRefusedError": "socketio.exceptions",
    "Emitter": f"{__name__}.emitter",
    "Namespace": f"{__name__}.namespace",
    "SocketIOMiddleware": f"{__name__}.middleware",
    "emit": f"{__name__}.emitting",
    "emit_now": f"{__name__}.emitting",
}


def __getattr__(name: str) -> Any:
    # Late: importing the package must not import what is unsafe before patching.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
