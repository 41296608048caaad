"""Emitting from outside of the workers: scripts, cron jobs, consoles.

Blocking sockets of the standard library; nothing needs to be patched.
"""

import json
import os
import socket
from collections.abc import Callable
from typing import Any

from socketio.pubsub_manager import PubSubManager

from nti.appserver.handover.folder import Folder, folder_for
from nti.appserver.settings import Settings, load_settings
from nti.appserver.socketio.bus import framed
from nti.appserver.socketio.manager import redis_manager

#: How long a worker may take none of what is sent, seconds.
SEND_SECONDS = 10.0


class _LocalManager(PubSubManager):  # type: ignore[misc]
    """python-socketio's message for an emit, sent to every worker that listens."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(write_only=True)
        self._folder = Folder(folder_for(settings, "bus"))
        self.reached = 0

    def _handle_emit(self, message: Any) -> None:
        """This process has no clients."""

    def _publish(self, data: Any) -> None:
        message = framed(json.dumps(data).encode())
        self.reached = sum(self._send(name, message) for name in self._folder.names())

    def _send(self, name: str, message: bytes) -> bool:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(SEND_SECONDS)
            try:
                connection.connect(self._folder.address(name))
                connection.sendall(message)
            except (ConnectionRefusedError, FileNotFoundError):
                self._folder.remove(name)
                return False
        return True


class Emitter:
    """Emits to the clients of a running site on this machine, or through its Redis.

    :param settings: the site's; those of the environment when not given. What
        counts is `bus`, and `runtime_dir` or `var`.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        settings = settings if settings is not None else load_settings(environ=os.environ)
        self._manager: Any
        self._reached: Callable[[], int | None]
        if settings.bus == "local":
            self._manager = manager = _LocalManager(settings)
            self._reached = lambda: manager.reached
        else:
            self._manager = redis_manager(settings.bus, write_only=True)
            self._reached = lambda: None

    def emit(
        self,
        event: str,
        data: Any = None,
        *,
        to: Any = None,
        skip_sid: Any = None,
        namespace: str = "/",
    ) -> int | None:
        """Emit an event now; the arguments are those of `nti.appserver.socketio.emit`.

        :return: how many workers were told; None where Redis tells them.
        :raises OSError: a worker took nothing in time.
        """
        self._manager.emit(event, data, namespace=namespace, room=to, skip_sid=skip_sid)
        return self._reached()
