"""The blocked hub: who keeps it from running, said once for each time that somebody does.

gevent's own monitor thread does the watching: a native thread that looks, once
in each threshold, whether the hub has switched since its last look. The report is written by
that thread straight to a file descriptor: the hub is not there to write a log
line, and a lock of logging may be what it waits for.
"""

import contextlib
import os
import sys
import time
import traceback
from collections.abc import Callable
from types import FrameType
from typing import Any

import gevent
from gevent._monitor import PeriodicMonitoringThread

from nti.appserver.metrics import Counter

BLOCKED = Counter("appserver_hub_blocked_total", "How often a greenlet kept the hub for too long.")

#: Frames of a stack that are shown, the innermost.
SHOWN_FRAMES = 25


class BlockedHubMonitor:
    """Reports a greenlet that keeps the hub of the calling thread from running.

    :param seconds: > 0; what counts as too long. It is noticed before twice that.
    :param write: takes a report, in the monitor's thread; by default it goes to standard error.
    """

    def __init__(self, seconds: float, write: Callable[[str], object] | None = None) -> None:
        self._seconds = seconds
        self._write = write or _to_standard_error
        self._monitor: _Monitor | None = None

    def start(self) -> None:
        """Begin; called in the hub's thread, after the fork."""
        gevent.config.max_blocking_time = self._seconds
        self._monitor = _Monitor(gevent.get_hub(), self._report)

    def stop(self) -> None:
        """End; called in the hub's thread. Calling it again does nothing."""
        if self._monitor is not None:
            self._monitor.kill()
            self._monitor = None

    def _report(self, hub: Any, greenlet: Any) -> None:
        """The monitor's thread, while `greenlet` goes on."""
        BLOCKED.inc()
        frame = sys._current_frames().get(hub.thread_ident)
        stack = traceback.format_stack(frame)[-SHOWN_FRAMES:] if frame is not None else []
        when = time.strftime("%Y-%m-%d %H:%M:%S %z")
        where = f"[{when}] [{os.getpid()}] [WARNING] {__name__}"
        lines = [
            f"{where}: the hub has not run for {self._seconds:g} s",
            f"  greenlet: {greenlet!r}",
            f"  request: {_request_of(frame)}",
            "  stack, innermost last:\n",
        ]
        with contextlib.suppress(Exception):
            self._write("\n".join(lines) + "".join(stack))


class _Monitor(PeriodicMonitoringThread):  # type: ignore[misc]
    """gevent's monitor thread, which tells of one incident once."""

    def __init__(self, hub: Any, report: Callable[[Any, Any], None]) -> None:
        self._tell = report
        self._told: Any = None
        super().__init__(hub)

    def monitor_blocking(self, hub: Any) -> None:
        """Runs in the monitor's thread, once in each threshold."""
        blocked = self._greenlet_tracer.did_block_hub(hub)
        if not blocked:
            self._told = None
        elif blocked[1] is not self._told:
            self._told = blocked[1]
            self._tell(hub, self._told)


def _request_of(frame: FrameType | None) -> str:
    """The request that the frame works on: the nearest `environ` above it, as WSGI has it."""
    while frame is not None:
        environ = frame.f_locals.get("environ")
        if isinstance(environ, dict) and "REQUEST_METHOD" in environ:
            method, path = environ["REQUEST_METHOD"], environ.get("PATH_INFO", "")
            return f"{method} {path!r} {environ.get('nti.appserver.request_id', '')}".rstrip()
        frame = frame.f_back
    return "none"


def _to_standard_error(report: str) -> None:
    os.write(2, report.encode("utf-8", "replace"))
