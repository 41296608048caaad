"""What gunicorn.py calls at the turns of a worker's life; each says where it runs.

gunicorn's arbiter imports this module before any worker is patched, so what
needs gevent is imported by the methods that run in a worker.
"""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from nti.appserver.ops import logs
from nti.appserver.ops.crashes import CrashLoop
from nti.appserver.settings import Settings, load_settings

if TYPE_CHECKING:
    from nti.appserver.ops.housekeeping import Housekeeping

_crash_loop: CrashLoop | None = None


def prepare_arbiter() -> None:
    """Arbiter, when it takes up the worker class: log lines as `log_format` says.

    The arbiter has no application, so it knows the settings of the environment
    alone.
    """
    logs.install(load_settings(environ=os.environ).log_format)


class WorkerHooks:
    """One worker's turns, in the order of the methods. Made in the arbiter, before the fork.

    :raises HaltServer: the workers before it crashed one after the other.
    """

    def __init__(self) -> None:
        global _crash_loop
        if _crash_loop is None:
            _crash_loop = CrashLoop(load_settings(environ=os.environ).crash_loop)
        self._life = _crash_loop.next_life()
        self._housekeeping: Housekeeping | None = None

    def patched(self) -> None:
        """Worker: it is patched and about to make its application."""
        self._life.enter()
        logs.start_worker(load_settings(environ=os.environ).log_format)

    def application_made(self, settings: Settings | None, restart: Callable[[str], object]) -> None:
        """Worker: it is about to accept.

        :param settings: those of the application; None: those of the environment.
        :param restart: ends the worker gracefully so that gunicorn starts
            another; given the reason.
        """
        from nti.appserver.hub.monitor import BlockedHubMonitor
        from nti.appserver.ops.housekeeping import Housekeeping

        if settings is None:
            settings = load_settings(environ=os.environ)
        logs.install(settings.log_format)
        logs.application_made()
        self._housekeeping = Housekeeping(settings, restart)
        self._housekeeping.start()
        if settings.blocked_hub:
            BlockedHubMonitor(settings.blocked_hub).start()

    def may_leave(self) -> bool:
        """Worker: whether it is its turn to be replaced; once it is, it stays so."""
        return self._housekeeping is None or self._housekeeping.may_leave()

    def draining(self, reason: str) -> None:
        """Worker: it accepts no more, for a restart or the end; more calls change nothing."""
        self._life.end()
        if self._housekeeping is not None:
            self._housekeeping.drain(reason)

    def ended(self) -> None:
        """Worker: its requests are done, and it exits now, as it should."""
        self._life.end()
        if self._housekeeping is not None:
            self._housekeeping.stop()
            self._housekeeping = None
