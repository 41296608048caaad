"""What a worker does beside its requests: its record, its lateness, its dumps, its end.

One greenlet wakes ten times a second. How late it wakes is how long the hub was
kept from running. Everything it does takes well under a millisecond, and it
waits for nothing but the clock.
"""

import logging
import os
import time
from collections.abc import Callable
from typing import Any

import gevent

from nti.appserver import health
from nti.appserver.metrics import Counter, Gauge, Histogram
from nti.appserver.ops import dumps
from nti.appserver.ops.exposition import Family, collect
from nti.appserver.ops.processes import identity, open_descriptors, resident_bytes
from nti.appserver.ops.recycling import Recycling
from nti.appserver.ops.registry import ENDED, SERVING, Registry, folder_for
from nti.appserver.settings import Settings

#: Seconds.
TICK = 0.1
RECORD_EVERY = 1.0
RECYCLING_EVERY = 5.0
#: The gauge of lateness tells the worst of the last so many seconds.
LATENESS_WINDOW = 10.0

LATENESS = Histogram(
    "appserver_hub_lateness_seconds", "How late the hub ran a timer that was due, ten a second."
)
WORST_LATENESS = Gauge(
    "appserver_hub_lateness_worst_seconds",
    f"The worst lateness of the last {LATENESS_WINDOW:.0f} to {2 * LATENESS_WINDOW:.0f} seconds.",
    merge="max",
)
Gauge("appserver_memory_bytes", "Memory of the workers in RAM.", function=resident_bytes)
Gauge("appserver_open_descriptors", "Open files and sockets.", function=open_descriptors)
Gauge("appserver_workers", "Workers that live.", function=lambda: 1)
RECYCLED = Counter("appserver_workers_recycled_total", "Workers replaced for memory or age.")

log = logging.getLogger(__name__)

_current: "Housekeeping | None" = None


def current() -> "Housekeeping | None":
    """This process's housekeeping, once it has started."""
    return _current


class Housekeeping:
    """The housekeeping of one worker; `start` it before the worker accepts.

    :param restart: called at most once, with the reason, when the worker has
        grown too large or too old; None: it is never replaced for these.
    """

    def __init__(self, settings: Settings, restart: Callable[[str], object] | None = None) -> None:
        self.settings = settings
        self.folder = folder_for(settings)
        self.registry: Registry | None = Registry(self.folder)
        self.booted = time.time()
        self.state = SERVING
        self._began = time.monotonic()
        self._worker = identity(os.getpid())
        self._master = identity(os.getppid())
        self._recycling = Recycling(settings, self.folder, self._leave) if restart else None
        self._restart = restart
        self._lateness = Lateness(settings.blocked_hub)
        self._greenlet: Any = None
        #: Whether the last record could not be written, which is said once.
        self._failing = False

    def start(self) -> None:
        """Begin; a folder that cannot be written is reported, and costs the shared totals."""
        global _current
        assert self.registry is not None
        try:
            self.registry.join()
            self.registry.write(self.record())
        except OSError as error:
            log.warning(
                "%s cannot be written (%s): /_ops/metrics tells of one worker only, "
                "set runtime_dir to a folder that the workers may write",
                self.folder,
                error.strerror,
            )
            self.registry = None
        dumps.install(self.folder, self._worker)
        health.register("hub", self._lateness.problem)
        health.register("draining", self._draining)
        _current = self
        self._greenlet = gevent.spawn(self._run)
        self._greenlet.name = "housekeeping"

    def drain(self, reason: str) -> None:
        """The worker takes no new work: `/_ops/ready` says so from now on."""
        self.state = f"draining ({reason})"
        self._write()

    def stop(self) -> None:
        """Leave the last counts; the process is about to end."""
        global _current
        if self._greenlet is not None:
            self._greenlet.kill(block=False)
        self.state = ENDED
        self._write()
        dumps.remove()
        _current = None

    def may_leave(self) -> bool:
        """Whether no other worker is being replaced; then none is until this one has ended."""
        return self._recycling is None or self._recycling.takes_turn()

    def families(self) -> list[Family]:
        """The instruments of all workers; this one's as they stand now.

        :raises ServiceUnavailable: the records cannot be read now.
        """
        if self.registry is None:
            return collect()
        # What is told now must be on disk, or a crash would take it back.
        self._write()
        return self.registry.families()

    def record(self) -> dict[str, Any]:
        """What this worker tells of itself: who, since when, in which state, all instruments."""
        return {
            "worker": list(self._worker),
            "master": list(self._master),
            "booted": self.booted,
            "time": time.time(),
            "state": self.state,
            "problems": health.problems(),
            "families": collect(),
        }

    def _write(self) -> None:
        if self.registry is None:
            return
        try:
            self.registry.write(self.record())
        except OSError as error:
            if not self._failing:
                log.warning("cannot write to %s: %s", self.folder, error.strerror)
            self._failing = True
        else:
            if self._failing:
                log.info("writing to %s works again", self.folder)
            self._failing = False

    def _draining(self) -> str:
        return "" if self.state == SERVING else self.state

    def _leave(self, reason: str) -> None:
        assert self._restart is not None
        log.info("this worker is replaced: %s", reason)
        RECYCLED.inc()
        self._restart(reason)

    def _run(self) -> None:
        next_record = next_recycling = self._began
        while True:
            due = time.monotonic() + TICK
            gevent.sleep(TICK)
            now = time.monotonic()
            self._lateness.note(max(0.0, now - due), now)
            if now >= next_record:
                next_record = now + RECORD_EVERY
                self._write()
            if self._recycling is not None and now >= next_recycling:
                next_recycling = now + RECYCLING_EVERY
                self._recycling.consider(resident_bytes(), now - self._began)


class Lateness:
    """How late the hub has been lately.

    :param limit: seconds past which the worker is not ready; 0: none.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._last = 0.0
        self._worst = 0.0
        self._window_ends = 0.0

    def note(self, seconds: float, now: float) -> None:
        """Take in one wake-up that was this late."""
        LATENESS.observe(seconds)
        self._last = seconds
        if now > self._window_ends:
            self._window_ends = now + LATENESS_WINDOW
            WORST_LATENESS.set(max(seconds, self._worst))
            self._worst = 0.0
        self._worst = max(self._worst, seconds)
        if self._worst > WORST_LATENESS.value:
            WORST_LATENESS.set(self._worst)

    def problem(self) -> str:
        """Why the worker is not ready, for `nti.appserver.health`."""
        if self._limit and self._last > self._limit:
            return f"the hub was kept from running for {self._last:.1f} s"
        return ""
