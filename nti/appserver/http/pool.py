"""Pooled greenlets that run the requests of connections.

A new greenlet costs about 9 us, most of it for its stack of Python frames, a
pooled one half a microsecond. Between two jobs it forgets what belonged to the
first: its contextvars, its gevent.local values and its dummy thread.

`run` is called on the hub and switches into a greenlet at once; it returns when
that greenlet first waits.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import gevent
from greenlet import greenlet

#: Greenlets kept for later; those of a burst end when they are done.
SPARE = 64

Job = Callable[[Any, Any], object]
Link = Callable[["Runner"], object]


class Runner(greenlet):  # type: ignore[misc]
    """A greenlet of the pool.

    gevent.local and gevent's dummy threads register with `rawlink` what is to
    happen at the end of a greenlet; here it happens at the end of each job.
    """

    def __init__(self, run: Callable[..., object], parent: greenlet) -> None:
        super().__init__(run, parent)
        self.links: list[Link] = []

    def rawlink(self, callback: Link) -> None:
        """Call `callback(self)` when the current job is over."""
        self.links.append(callback)

    def unlink(self, callback: Link) -> None:
        """Do not call `callback`; no matter whether it was linked."""
        if callback in self.links:
            self.links.remove(callback)

    def forget(self) -> None:
        """Drop everything that the job kept for this greenlet."""
        links, self.links = self.links, []
        for callback in links:
            callback(self)
        self.gr_context = None


class Pool:
    """Runs jobs in greenlets. The caller bounds how many at a time.

    :param failed: told of an exception that escaped a job.
    """

    def __init__(
        self, hub: Any, failed: Callable[[BaseException], object], spare: int = SPARE
    ) -> None:
        self._hub = hub
        self._to_hub = partial(greenlet.switch, hub)
        self._failed = failed
        self._spare = spare
        self._idle: list[Runner] = []
        self._all: set[Runner] = set()

    def run(self, job: Job, first: Any, second: Any) -> None:
        """Call `job(first, second)` in a greenlet, now. Hub only."""
        if self._idle:
            self._idle.pop().switch(job, first, second)
        else:
            runner = Runner(self._work, self._hub)
            self._all.add(runner)
            runner.switch(job, first, second)

    def running(self) -> list[Runner]:
        """The greenlets that have a job."""
        return list(self._all.difference(self._idle))

    def kill(self) -> None:
        """Raise GreenletExit in every job, in the loop's next turn."""
        for runner in self.running():
            gevent.kill(runner)

    def _work(self, job: Job, first: Any, second: Any) -> None:
        runner = gevent.getcurrent()
        while True:
            try:
                job(first, second)
            except BaseException as problem:
                # An escape would reach the hub, and end it.
                self._failed(problem)
            first = second = None
            if runner.links or runner.gr_context is not None:
                runner.forget()
            if len(self._idle) >= self._spare:
                self._all.discard(runner)
                return
            self._idle.append(runner)
            job, first, second = self._to_hub()
