"""Database connections, leased from a bounded set to one unit of work at a time.

A unit of work takes at most one lease of a database, when it first asks for a
connection, and gives it back at its end; connections to the other databases of
a multi-database hang on it. When all are taken it waits its turn. `take` is the
only place that waits. The mutex is never held across a wait, nor while anything
is made or called that may collect garbage: a lost lease needs it for its end.
"""

import contextlib
import logging
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable
from time import monotonic
from typing import TYPE_CHECKING, Any

from ZODB.Connection import Connection

from nti.appserver.errors import ServiceUnavailable
from nti.appserver.hub import native
from nti.appserver.settings import Settings
from nti.appserver.transactions.connections import (
    LeasedConnection,
    lend,
    part,
    prepare,
    report_kept,
    take_back,
)
from nti.appserver.transactions.instruments import LEASE_WAIT_SECONDS, LEASES, LEASES_LOST

if TYPE_CHECKING:
    from nti.appserver.transactions.units import Unit

logger = logging.getLogger("nti.appserver.transactions")

#: Frames of these packages say nothing about who took a lease.
_INNER = ("nti.appserver.transactions", "nti.appserver.pyramid", "pyramid", "ZODB", "webob")

#: Functions, by the identity of their code (a hash of code reads all of it), and whether each
#: belongs to one of these; a cache.
_known: dict[int, tuple[Any, bool]] = {}

#: Leases that one report names.
_NAMED = 10


class Lease:
    """One connection, until it is given back."""

    __slots__ = ("connection", "since", "source", "taken_at")

    def __init__(self, source: "Leases", connection: Any) -> None:
        self.source = source
        self.connection = connection
        self.since = monotonic()
        self.taken_at = _caller()

    def give_back(self) -> None:
        """Return the connection; nothing, when that has been done. Its transaction has ended."""
        connection, self.connection = self.connection, None
        if connection is not None:
            self.source.give_back(self, connection)

    def __str__(self) -> str:
        return f"taken {monotonic() - self.since:.1f} s ago at {_place(self.taken_at)}"

    def __del__(self) -> None:
        if self.connection is not None:
            LEASES_LOST.inc()
            logger.error("a database connection was not given back; %s", self)
            connection, self.connection = self.connection, None
            self.source.lose(connection)


class Leases:
    """The connections of one database that a process leases.

    :param settings: tells the settings to follow: `connection_limit`, `connection_wait`.
    """

    def __init__(self, db: Any, settings: Callable[[], Settings]) -> None:
        self._db = db
        self._settings = settings
        self._mutex = native.Lock()
        self._waiting: deque[Any] = deque()
        self._count = 0
        self._idle: list[Any] = []
        for each in {db, *db.databases.values()}:
            _prepare(each, settings().connection_limit)

    def taken(self) -> list[Lease]:
        """What is leased now, longest first."""
        found = {each for other in self._db.pool for each in _leases_of(other)}
        return sorted(found, key=lambda lease: lease.since)

    def take(self, unit: "Unit") -> Lease:
        """Lease a connection for a unit of work; waits its turn when none is free.

        :raises ServiceUnavailable: none was given back within `connection_wait` seconds.
        """
        self._reserve()
        try:
            connection = self._open(unit)
        except BaseException:
            self._release()
            raise
        LEASES.inc()
        return Lease(self, connection)

    def give_back(self, lease: Lease, connection: Any) -> None:
        """Close a connection, whose place goes to who waits longest.

        What fails in that is only logged, since the commit has been made by then.
        """
        try:
            _close(connection, self._settings().debug_units)
            self._idle.append(connection)
        except Exception:  # the storage has gone away, say
            logger.exception("a database connection could not be closed; there will be a new one")
            _discard(connection)
        finally:
            LEASES.dec()
            self._release()

    def catch_up(self) -> None:
        """Wait until this process knows of all that others have committed until now.

        A ZEO server tells its clients of commits by and by. Who has met a
        conflict and tries again at once would meet it again.
        """
        for db in self._db.databases.values():
            catch_up = getattr(db.storage, "catch_up", None)
            if catch_up is not None:
                with contextlib.suppress(Exception):  # the next attempt will meet that
                    catch_up()

    def _open(self, unit: "Unit") -> Any:
        """The connection used last, since its cache is warmest, or a new one.

        The database's own pool looks through all that are idle each time.
        """
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self._db.open(unit.manager)
            connection.unit = unit
            return connection
        try:
            lend(connection, unit)
        except BaseException:  # the storage is away, say
            with contextlib.suppress(Exception):
                take_back(connection)
                self._idle.append(connection)
            raise
        return connection

    def lose(self, connection: Any) -> None:
        """Do without a connection that is garbage; the pool has forgotten it already."""
        with contextlib.suppress(Exception):
            _end_transaction(connection)
        _discard(connection)
        LEASES.dec()
        self._release()

    def _reserve(self) -> None:
        settings = self._settings()
        limit = settings.connection_limit
        with self._mutex:
            if self._count < limit and not self._waiting:
                self._count += 1
                return
        turn = threading.Lock()
        turn.acquire()
        with self._mutex:
            if self._count < limit and not self._waiting:
                self._count += 1
                return
            self._waiting.append(turn)
        began = monotonic()
        try:
            mine = turn.acquire(timeout=settings.connection_wait)
        except BaseException:
            if not self._forget(turn):
                self._release()
            raise
        LEASE_WAIT_SECONDS.observe(monotonic() - began)
        if not mine and self._forget(turn):
            logger.error(
                "no database connection within %g s: all %d are leased, the first of them %s",
                settings.connection_wait,
                settings.connection_limit,
                "; ".join(map(str, self.taken()[:_NAMED])),
            )
            raise ServiceUnavailable("All database connections are in use.", retry_after=1)

    def _forget(self, turn: Any) -> bool:
        """Stop waiting; False when the turn has come meanwhile."""
        with self._mutex:
            if turn in self._waiting:
                self._waiting.remove(turn)
                return True
            return False

    def _release(self) -> None:
        limit = self._settings().connection_limit
        with self._mutex:
            if not self._waiting or self._count > limit:
                self._count -= 1
                return
            turn = self._waiting.popleft()
        turn.release()


def _prepare(db: Any, limit: int) -> None:
    """Have a database make connections of our class, as many as may be leased."""
    db.setPoolSize(max(db.getPoolSize(), limit))
    if db.klass is Connection:
        db.klass = LeasedConnection
        for each in db.pool:  # opening the database has used one
            if type(each) is Connection:
                each.__class__ = LeasedConnection
                prepare(each)


def _leases_of(connection: Any) -> Iterable[Lease]:
    unit = getattr(connection, "unit", None)
    return unit.leases() if unit is not None else ()


def _close(connection: Any, debug: bool) -> None:
    """Close a connection and those beside it; of one still in a transaction that is aborted."""
    unit = getattr(connection, "unit", None)
    _end_transaction(connection)
    if debug:
        report_kept(connection, unit)
    take_back(connection)


def _discard(connection: Any) -> None:
    """Do without a connection, whatever state it is in."""
    with contextlib.suppress(Exception):
        part(connection)
        connection._release_resources()


def _end_transaction(connection: Any) -> None:
    """Abort the transaction that a connection, or one beside it, is still part of.

    Another one of the same manager is left alone: it may be a later unit of work's.
    """
    for each in connection.connections.values():
        if not each._needs_to_join:
            logger.error("a connection was given back while its transaction ran; aborting that")
            each.transaction_manager.abort()


def _caller() -> list[tuple[Any, int]]:
    """The frame outside of this machinery, and the one that called it; code and instruction."""
    frame: Any = sys._getframe(5)
    found: list[tuple[Any, int]] = []
    while frame is not None:
        code = frame.f_code
        _, inner = _known.get(id(code)) or _note(frame)
        if not inner:
            found.append((code, frame.f_lasti))
        if len(found) == 2 or (inner and found):
            break
        frame = frame.f_back
    return found


def _note(frame: Any) -> tuple[Any, bool]:
    """Whether a frame's function belongs to the machinery, remembered with its code."""
    if len(_known) > 10_000:
        _known.clear()
    name = frame.f_globals.get("__name__") or ""
    found = _known[id(frame.f_code)] = frame.f_code, name.startswith(_INNER)
    return found


def _place(frames: list[tuple[Any, int]]) -> str:
    places = [
        f"{code.co_filename}:{_line(code, instruction)} in {code.co_qualname}"
        for code, instruction in frames
    ]
    return ", from ".join(places) or "an unknown place"


def _line(code: Any, instruction: int) -> int | None:
    """The line that an instruction is in; looked up for reports alone, since it takes a while."""
    lines = (line for start, end, line in code.co_lines() if start <= instruction < end)
    return next(lines, None)
