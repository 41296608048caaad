"""python-socketio's client managers on this package's bus.

A manager knows the clients of its worker and the rooms they are in; through
the bus it also has the other workers emit to theirs. Runs in greenlets of the
worker.
"""

import json
from collections.abc import Iterator
from typing import Any

from gevent.queue import Queue
from socketio.manager import Manager
from socketio.pubsub_manager import PubSubManager

from nti.appserver import health
from nti.appserver.errors import ConfigurationError
from nti.appserver.handover.folder import folder_for
from nti.appserver.settings import Settings
from nti.appserver.socketio.bus import LocalBus

#: Messages from other workers that may wait to be handled; then they are read no further.
MAX_WAITING = 1000

CHANNEL = "nti.appserver"


class BusManager(PubSubManager):  # type: ignore[misc]
    """Emits to the clients of all workers on this machine.

    :param settings: says where the bus is.
    """

    name = "bus"

    def __init__(self, settings: Settings) -> None:
        super().__init__(channel=CHANNEL)
        self._waiting: Queue[bytes] = Queue(MAX_WAITING)
        self._bus = LocalBus(folder_for(settings, "bus"), self._waiting.put)

    def initialize(self) -> None:
        """Hear the other workers; called when the first client comes."""
        self._bus.listen()
        health.register("bus", lambda: self._bus.problem)
        super().initialize()

    def emit(self, event: str, data: Any, *args: Any, **options: Any) -> None:
        """Emit to clients of every worker; those of the others hear it a moment later."""
        if self._bus.alone():
            Manager.emit(self, event, data, *args, **options)
        else:
            super().emit(event, data, *args, **options)

    def _publish(self, data: Any) -> None:
        self._bus.publish(json.dumps(data).encode())

    def _listen(self) -> Iterator[bytes]:
        while True:
            yield self._waiting.get()


def manager_for(settings: Settings, **options: Any) -> Any:
    """The manager that the setting `bus` asks for.

    :raises ConfigurationError: it is neither `local` nor a redis:// address, or
        the `redis` extra is not installed.
    """
    if settings.bus == "local":
        return BusManager(settings)
    return redis_manager(settings.bus, **options)


def redis_manager(address: str, **options: Any) -> Any:
    """A manager that publishes through Redis.

    :raises ConfigurationError: as `manager_for` does.
    """
    if not address.startswith(("redis://", "rediss://", "unix://")):
        raise ConfigurationError(
            f"setting bus is {address!r}", "local, or redis://host:port/number"
        )
    try:
        import redis  # noqa: F401
    except ImportError:
        raise ConfigurationError(
            f"setting bus is {address!r} and redis is not installed",
            mend="pip install 'nti.appserver[redis]'",
        ) from None
    from socketio import RedisManager

    return RedisManager(address, channel=CHANNEL, **options)
