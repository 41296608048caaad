"""Pooled greenlets that run the requests of connections.

A new greenlet costs about 9 us, most of it for its stack of Python frames, a
pooled one half a microsecond. Between two jobs it forgets what belonged to the
first: its contextvars, its gevent.local values and its dummy thread; all but what
was given to `keep`.

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
        #: By a name: the links of what outlives a job, and whether it still may.
        self.kept: dict[str, tuple[list[Link], Callable[[], bool]]] = {}

    def rawlink(self, callback: Link) -> None:
        """Call `callback(self)` when the current job is over."""
        self.links.append(callback)

    def unlink(self, callback: Link) -> None:
        """Do not call `callback`; no matter whether it was linked."""
        if callback in self.links:
            self.links.remove(callback)

    def keep(self, name: str, make: Callable[[], object], may_stay: Callable[[], bool]) -> None:
        """Call `make()`; what it keeps for this greenlet is there in later jobs, too.

        Nothing is kept where it was there before.

        :param name: what `kept` calls it.
        :param may_stay: asked at the end of each job; false: it is dropped.
        """
        before = len(self.links)
        make()
        if made := self.links[before:]:
            del self.links[before:]
            self.kept[name] = made, may_stay

    def forget(self) -> None:
        """Drop everything that the job kept for this greenlet."""
        for name, (made, may_stay) in list(self.kept.items()):
            if not may_stay():
                self.links += made
                del self.kept[name]
        links, self.links = self.links, []
        for callback in links:
            callback(self)
        self.gr_context = None

    def end(self) -> None:
        """Drop what was kept, too, before the greenlet ends."""
        for made, _ in self.kept.values():
            self.links += made
        self.kept.clear()
        self.forget()


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
            if runner.links or runner.kept or runner.gr_context is not None:
                runner.forget()
            if len(self._idle) >= self._spare:
                self._all.discard(runner)
                runner.end()
                return
            self._idle.append(runner)
            job, first, second = self._to_hub()
