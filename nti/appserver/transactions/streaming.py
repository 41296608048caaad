"""The rest of a streamed response: a second, read-only unit of work.

The first chunk was pulled inside the first unit of work, which has committed
since; its leases stay, so the objects that the response reads from stay usable.
`close` ends it, which every WSGI server calls. A client that takes too long
loses it: the leases go back, and the response breaks off.

It runs in the greenlet that sends, except for the timer's end of it, which
happens only while no chunk is being made.
"""

import logging
from collections.abc import Iterator
from time import monotonic
from typing import Any

import gevent

from nti.appserver.errors import AppServerError
from nti.appserver.transactions.commit import begin_attempt
from nti.appserver.transactions.current import GREENLETS, slot
from nti.appserver.transactions.databases import settings_of_process
from nti.appserver.transactions.instruments import REFUSED_READS
from nti.appserver.transactions.reading import named, writers
from nti.appserver.transactions.units import Unit

logger = logging.getLogger("nti.appserver.transactions")

#: An iterator has no further chunk.
END = object()


class StreamExpired(AppServerError):
    """A streamed response took longer than `stream_deadline`."""


class StreamedBody:
    """Chunks of a response that come after its unit of work has committed.

    :param unit: that unit of work, left by its greenlet, its leases kept.
    :param first: chunks pulled already.
    :param rest: the further ones.
    :param owner: what is closed in the end.
    """

    def __init__(self, unit: Unit, first: list[bytes], rest: Iterator[bytes], owner: Any) -> None:
        self._unit = unit
        self._first = first
        self._rest = rest
        self._owner = owner
        self._seconds = settings_of_process().stream_deadline
        self._until = 0.0
        self._timer: Any = None
        self._inside = False
        self._over = False
        self._begun = False
        self._was_explicit = False

    def begin(self) -> "StreamedBody":
        """Begin the second unit of work; the first has committed, and its greenlet left it.

        :raises BaseException: it could not begin; then it is over, and all is closed.
        """
        unit = self._unit
        self._until = monotonic() + self._seconds
        self._was_explicit = unit.manager.explicit
        unit.manager.explicit = True
        self._begun = True
        try:
            begin_attempt(unit.manager.begin(), unit)
        except BaseException:  # the storage is away, say
            if unit.transaction is None and unit.manager._txn is not None:
                unit.manager._txn.abort()
            self.close()
            raise
        self._timer = self._start_timer()
        return self

    @property
    def is_over(self) -> bool:
        """Whether it has been closed, or has expired."""
        return self._over

    def __iter__(self) -> "StreamedBody":
        return self

    def __next__(self) -> bytes:
        """The next chunk.

        :raises StreamExpired: the time is over.
        """
        if self._first:
            return self._first.pop(0)
        if self._begun:
            self._check_time()
        try:
            chunk = self._within(next, self._rest, END)
        finally:
            if self._over:  # expired while a chunk was made
                self._end()
        if chunk is END:
            raise StopIteration
        return chunk  # type: ignore[no-any-return]

    def close(self) -> None:
        """End the unit of work and give back its leases; a second call does nothing."""
        try:
            close = getattr(self._owner, "close", None)
            if close is not None:
                self._owner = None
                self._within(close)
        finally:
            self._end()

    def __del__(self) -> None:
        if self._begun and self._unit is not None:
            logger.error("%s: its response was not closed", self._unit.label)
            self._end()

    def _within(self, func: Any, *args: Any) -> Any:
        """Call `func` as a part of the unit of work."""
        unit = self._unit
        if unit is None or not self._begun:
            return func(*args)
        outer, slot.unit = slot.unit, unit
        self._inside = True
        try:
            return func(*args)
        finally:
            self._inside = False
            slot.unit = outer

    def _check_time(self) -> None:
        if self._over or monotonic() > self._until:
            self._end()
            raise StreamExpired(
                f"the response was not sent within {self._seconds:g} s of its commit; "
                "send less, read what it needs before, or set stream_deadline"
            )

    def _end(self) -> None:
        unit, self._unit = self._unit, None  # type: ignore[assignment]
        self._over = True
        if unit is None or not self._begun:
            return
        if self._timer is not None:
            self._timer.close()
        try:
            _end_of_reading(unit)
        finally:
            unit.manager.explicit = self._was_explicit
            unit.finish()

    def _start_timer(self) -> Any:
        if not GREENLETS:
            return None
        timer = gevent.get_hub().loop.timer(self._seconds)
        timer.start(gevent.spawn, self._expire)
        return timer

    def _expire(self) -> None:
        self._over = True
        if not self._inside:
            self._end()


def _end_of_reading(unit: Unit) -> None:
    """End the second transaction: discard what was written, let effects happen."""
    tx = unit.transaction
    if tx is None:
        return
    found = writers(tx)
    if found:
        REFUSED_READS.inc()
        logger.warning(
            "%s wrote after its response began, which is discarded: %s", unit.label, named(found)
        )
        tx.nti_abort()
    else:
        tx.nti_commit()
        if unit.arrived is not None:
            raise unit.arrived


def pull_first(iterable: Any) -> tuple[list[bytes], Iterator[bytes] | None]:
    """The first chunk that is not empty, and the iterator of the rest; None: there is no rest.

    A server sends the headers with that chunk (PEP 3333), so whatever goes
    wrong before it can still be answered.
    """
    rest = iter(iterable)
    chunk: Any = b""
    while not chunk:
        chunk = next(rest, END)
    return ([], None) if chunk is END else ([chunk], rest)
