"""Database connections, leased from a bounded set to one unit of work at a time.

A unit of work takes at most one lease of a database, when it first asks for a
connection, and gives it back at its end; connections to the other databases of
a multi-database hang on it. When all are taken it waits its turn. `take` is the
only place that waits; the mutex is never held across a wait.

`LeasedConnection` notices when an object is used outside of the unit of work
that its connection is leased to: in a greenlet that was spawned inside it, or
after its end.
"""

import contextlib
import gc
import logging
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable
from time import monotonic
from typing import TYPE_CHECKING, Any

from ZODB.Connection import Connection
from ZODB.POSException import ConflictError
from ZODB.utils import oid_repr, z64

from nti.appserver.errors import AppServerError, ServiceUnavailable
from nti.appserver.hub import native
from nti.appserver.settings import Settings
from nti.appserver.transactions.current import slot
from nti.appserver.transactions.instruments import (
    FOREIGN_USES,
    KEPT_OBJECTS,
    LEASE_WAIT_SECONDS,
    LEASES,
    LEASES_LOST,
)
from nti.appserver.transactions.turns import is_contended

if TYPE_CHECKING:
    from nti.appserver.transactions.units import Unit

logger = logging.getLogger("nti.appserver.transactions")

#: Frames of these packages say nothing about who took a lease.
_INNER = ("nti.appserver.transactions", "nti.appserver.pyramid", "pyramid", "ZODB", "webob")

#: Whether a function belongs to one of these; a cache.
_is_inner: dict[Any, bool] = {}

#: Kept objects, or leases, that one report names.
_NAMED = 10


class ForeignUse(AppServerError):
    """An object was changed outside of the unit of work that its connection belongs to."""


class LeasedConnection(Connection):  # type: ignore[misc]
    """A ZODB connection that knows the unit of work it is leased to."""

    unit: "Unit | None" = None
    _reported = False
    #: Objects that somebody has changed in memory without being allowed to.
    _spoiled: tuple[bytes, ...] = ()

    def open(self, transaction_manager: Any = None, delegate: bool = True) -> None:
        """Belong to a transaction manager, with every object as it is stored."""
        if self._spoiled:
            self._cache.invalidate(list(self._spoiled))
            self._spoiled = ()
        super().open(transaction_manager, delegate)

    def setstate(self, obj: Any) -> None:
        """Load an object's state; a foreign use is reported, and goes on."""
        if self.unit is not slot.unit and self.unit is not None and not self._is_ours():
            self._report(obj)
        super().setstate(obj)

    def register(self, obj: Any) -> None:
        """Note that an object has changed.

        :raises ForeignUse: by a greenlet or unit of work that it does not belong
            to; the one it belongs to fails, too, since the object may have been
            changed in memory by then.
        :raises ConflictError: another one has its turn at the object; there will
            be another attempt, even if this is swallowed.
        """
        unit = self.unit
        if unit is None:
            if self.opened is None:
                raise self._foreign_write(obj)
        else:
            if unit is not slot.unit and not self._is_ours():
                unit.refused = self._foreign_write(obj)
                raise unit.refused
            if unit.attempts_left and unit.turn is None and is_contended(obj._p_oid):
                super().register(obj)  # it may be changed in memory already; the abort undoes that
                unit.refused = ConflictError(object=obj)
                raise unit.refused
        super().register(obj)

    def _is_ours(self) -> bool:
        inner = slot.unit
        while inner is not None:
            if inner is self.unit:
                return True
            inner = inner.outer
        return False

    def _foreign_write(self, obj: Any) -> ForeignUse:
        FOREIGN_USES.labels("write").inc()
        self._spoiled += (obj._p_oid,)
        return ForeignUse(f"{self._words(obj)}; look it up in the unit of work that changes it")

    def _report(self, obj: Any) -> None:
        FOREIGN_USES.labels("read").inc()
        if not self._reported:
            self._reported = True
            logger.error("%s", self._words(obj), stack_info=True)

    def _words(self, obj: Any) -> str:
        owner = self.unit.label if self.unit is not None else "a unit of work that is over"
        user = slot.unit.label if slot.unit is not None else "a greenlet that runs no unit of work"
        return (
            f"{type(obj).__name__} {oid_repr(obj._p_oid)} belongs to {owner} and was used by {user}"
        )


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
            connection = self._open(unit.manager)
        except BaseException:
            self._release()
            raise
        connection.unit = unit
        LEASES.inc()
        return Lease(self, connection)

    def give_back(self, lease: Lease, connection: Any) -> None:
        """Close a connection, whose place goes to who waits longest."""
        try:
            _close(connection, self._settings().debug_units)
            self._idle.append(connection)
        finally:
            LEASES.dec()
            self._release()

    def catch_up(self) -> None:
        """Wait until this process knows of all that others have committed until now.

        A ZEO server tells its clients of commits by and by. Who has met a
        conflict and tries again at once would meet it again; an answer to a
        ping comes after all that the server has told before.
        """
        for db in self._db.databases.values():
            ping = getattr(db.storage, "ping", None)
            if ping is not None:
                with contextlib.suppress(Exception):  # the next attempt will meet that
                    ping()

    def _open(self, manager: Any) -> Any:
        """The connection used last, since its cache is warmest, or a new one.

        The database's own pool looks through all that are idle each time.
        """
        try:
            connection = self._idle.pop()
        except IndexError:
            return self._db.open(manager)
        connection.open(manager)
        return connection

    def lose(self, connection: Any) -> None:
        """Do without a connection that is garbage; the pool has forgotten it already."""
        with contextlib.suppress(Exception):
            connection.transaction_manager.abort()
        with contextlib.suppress(Exception):
            connection._release_resources()
        LEASES.dec()
        self._release()

    def _reserve(self) -> None:
        settings = self._settings()
        with self._mutex:
            if self._count < settings.connection_limit and not self._waiting:
                self._count += 1
                return
            turn = threading.Lock()
            turn.acquire()
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
        with self._mutex:
            if self._waiting and self._count <= self._settings().connection_limit:
                self._waiting.popleft().release()
            else:
                self._count -= 1


def _prepare(db: Any, limit: int) -> None:
    """Have a database make connections of our class, as many as may be leased."""
    db.setPoolSize(max(db.getPoolSize(), limit))
    if db.klass is Connection:
        db.klass = LeasedConnection
        for each in db.pool:  # opening the database has used one
            if type(each) is Connection:
                each.__class__ = LeasedConnection


def _leases_of(connection: Any) -> Iterable[Lease]:
    unit = getattr(connection, "unit", None)
    return unit.leases() if unit is not None else ()


def _close(connection: Any, debug: bool) -> None:
    """Close a connection and those beside it; of one still in a transaction that is aborted."""
    unit = getattr(connection, "unit", None)
    if not connection._needs_to_join:
        logger.error("a connection was given back while its transaction ran; aborting that")
        connection.transaction_manager.abort()
    if debug:
        report_kept(connection, unit)
    for each in connection.connections.values():
        each.unit = None
        each._reported = False
        each.close(primary=False)


def report_kept(connection: Any, unit: "Unit | None") -> list[Any]:
    """Debug mode: log and return the objects that something still refers to.

    All are made ghosts, so they do not keep one another; what the cache still
    knows then is referred to from elsewhere.
    """
    connection.cacheMinimize()
    gc.collect()
    root = connection._cache.get(z64)
    kept = [obj for obj in connection._cache.cache_data.values() if obj is not root]
    if kept:
        KEPT_OBJECTS.inc(len(kept))
        named = ", ".join(f"{type(obj).__name__} {oid_repr(obj._p_oid)}" for obj in kept[:_NAMED])
        label = unit.label if unit is not None else "a unit of work"
        logger.error("%s ends, and %d of its objects are kept: %s", label, len(kept), named)
    return kept


def _caller() -> list[tuple[Any, int]]:
    """Up to two frames outside of this machinery; their code and line."""
    frame: Any = sys._getframe(4)
    found: list[tuple[Any, int]] = []
    while frame is not None:
        code = frame.f_code
        inner = _is_inner.get(code)
        if inner is None:
            name = frame.f_globals.get("__name__") or ""
            if len(_is_inner) > 10_000:
                _is_inner.clear()
            inner = _is_inner[code] = name.startswith(_INNER)
        if not inner:
            found.append((code, frame.f_lineno))
            if len(found) == 2:
                break
        frame = frame.f_back
    return found


def _place(frames: list[tuple[Any, int]]) -> str:
    places = [f"{code.co_filename}:{line} in {code.co_qualname}" for code, line in frames]
    return ", from ".join(places) or "an unknown place"
