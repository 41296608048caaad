"""ZODB connections as units of work use them.

`LeasedConnection` notices when an object is used outside of the unit of work
that its connection is leased to: in a greenlet that was spawned inside it, or
after its end. `lend` and `take_back` do what ZODB does when a connection is
opened and closed, for one that is nobody's in between. Loading an object waits
for the storage, and so do `lend` and `refresh`.
"""

import gc
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ZODB.Connection import Connection
from ZODB.mvccadapter import MVCCAdapterInstance
from ZODB.POSException import ConflictError
from ZODB.utils import oid_repr, z64

from nti.appserver.errors import AppServerError
from nti.appserver.transactions.current import slot
from nti.appserver.transactions.instruments import FOREIGN_USES, KEPT_OBJECTS
from nti.appserver.transactions.turns import is_contended

if TYPE_CHECKING:
    from nti.appserver.transactions.units import Unit

logger = logging.getLogger("nti.appserver.transactions")

#: Kept objects that one report names.
_NAMED = 10


class ForeignUse(AppServerError):
    """An object was changed outside of the unit of work that its connection belongs to."""


class LeasedConnection(Connection):  # type: ignore[misc]
    """A ZODB connection that knows the unit of work it is leased to."""

    unit: "Unit | None" = None
    #: Whether its transaction manager tells it of begins and ends.
    is_registered = True
    _reported = False
    #: Objects that somebody has changed in memory without being allowed to.
    _spoiled: tuple[bytes, ...] = ()
    #: The storage's last transaction when it was last asked what has changed.
    _seen: bytes | None = None

    def __init__(self, db: Any, *args: Any, **options: Any) -> None:
        super().__init__(db, *args, **options)
        prepare(self)

    def close(self, primary: bool = True) -> None:
        """Close it; nothing while it is leased, since its unit of work gives it back."""
        if self.unit is None or not primary:
            super().close(primary)

    def open(self, transaction_manager: Any = None, delegate: bool = True) -> None:
        """Belong to a transaction manager, with every object as it is stored."""
        if self._spoiled:
            self._cache.invalidate(list(self._spoiled))
            self._spoiled = ()
        super().open(transaction_manager, delegate)

    def newTransaction(self, transaction: Any, sync: bool = True) -> None:
        """See what is stored by now; where that is what it saw before there is little to do."""
        storage = self._storage
        if type(storage) is MVCCAdapterInstance:
            storage.sync(sync)
            sync = False
            last = storage._storage.lastTransaction()
            # A native thread may change these in between; then the next look finds it.
            told = storage._invalidations
            if last == self._seen and told is not None and not told and storage._ltid <= last:
                self._readCurrent.clear()
                return
            self._seen = last
        super().newTransaction(transaction, sync)

    def get_connection(self, database_name: str) -> Any:
        """The connection beside it, of the same unit of work; opened at its first use.

        :raises KeyError: no database of that name is beside it.
        """
        beside = super().get_connection(database_name)
        beside.unit = self.unit
        return beside

    def tpc_finish(self, transaction: Any) -> None:
        """Finish a commit; it has its turn at an object no longer than that needs.

        A storage that says `finishes_at_once` has what was written in place before
        anybody else runs, and only then waits for the disk.
        """
        unit = self.unit
        if unit is not None and unit.turn is not None and self._finishes_at_once():
            unit.end_turn()
        super().tpc_finish(transaction)

    def _finishes_at_once(self) -> bool:
        return bool(getattr(self._db.storage, "finishes_at_once", False))

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
        try:
            super().register(obj)
        except BaseException:  # no transaction is under way, say; it is changed in memory already
            self._spoiled += (obj._p_oid,)
            raise

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


def prepare(connection: Any) -> None:
    """Spare a connection what ZODB looks for in vain at every close."""
    storage = connection._storage
    if not hasattr(storage, "afterCompletion"):
        storage.afterCompletion = _nothing


def _nothing() -> None:
    pass


class _NoManager:
    """Takes the place of a transaction manager while a connection is opened.

    Transaction managers tell their connections of every begin and end, through
    weak references that are made and dropped for each request. A unit of work
    knows its connections, and tells them itself where that is needed.
    """

    explicit = True

    @staticmethod
    def registerSynch(synch: Any) -> None:
        """Nothing."""


def lend(connection: Any, unit: "Unit") -> None:
    """Open a connection that `take_back` has closed, and those beside it, for a unit of work.

    Outside of its transaction others may begin and end some: its manager tells of these.
    """
    by_manager = unit.transaction is None
    connection.open(unit.manager if by_manager else _NoManager)
    for each in connection.connections.values():
        each.unit = unit
        each.transaction_manager = unit.manager
        each.is_registered = by_manager
        each.newTransaction(None)


def refresh(connection: Any) -> None:
    """Another transaction has begun: see what is stored by now."""
    for each in connection.connections.values():
        each.afterCompletion(None)
        each.newTransaction(None)


def take_back(connection: Any) -> None:
    """Close a connection and those beside it, all of them the caller's from now on."""
    for each in connection.connections.values():
        _part(each)
        each.unit = None
        each._reported = False
        each.close(primary=False)


def part(connection: Any) -> None:
    """Have a transaction manager forget a connection and those beside it."""
    for each in connection.connections.values():
        _part(each)


def _part(connection: Any) -> None:
    manager, connection.transaction_manager = connection.transaction_manager, None
    # Those that ZODB has opened itself are registered; one at its first use, say.
    if manager is not None and getattr(connection, "is_registered", True):
        with suppress(KeyError):
            manager.unregisterSynch(connection)


def report_kept(connection: Any, unit: "Unit | None") -> list[Any]:
    """Debug mode: log and return the objects that something still refers to.

    All are made ghosts, so they do not keep one another; what the cache still
    knows then is referred to from elsewhere.
    """
    connection.cacheMinimize()
    gc.collect()
    kept = [
        obj
        for each in connection.connections.values()
        for oid, obj in each._cache.cache_data.items()
        if oid != z64
    ]
    if kept:
        KEPT_OBJECTS.inc(len(kept))
        named = ", ".join(f"{type(obj).__name__} {oid_repr(obj._p_oid)}" for obj in kept[:_NAMED])
        label = unit.label if unit is not None else "a unit of work"
        logger.error("%s ends, and %d of its objects are kept: %s", label, len(kept), named)
    return kept
