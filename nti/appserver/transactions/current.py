"""What belongs to this greenlet: the unit of work that it runs, and its transaction manager.

Only these live here. A spawned greenlet, and a new thread, run no unit of work
and have a new manager. One of the server's greenlets has its manager from
request to request, as a thread of a threaded server has.
"""

import threading
from typing import TYPE_CHECKING, Any

import transaction
from gevent.local import local as greenlet_local
from greenlet import getcurrent

from nti.appserver.errors import AppServerError

if TYPE_CHECKING:
    from nti.appserver.transactions.units import Unit

#: Whether this process runs greenlets: then `transaction.manager` belongs to each of
#: them, and they may be killed; else it belongs to a thread, and nothing is.
GREENLETS: bool = threading.local is greenlet_local


class NoUnitOfWork(AppServerError):
    """Something needs a unit of work, and none runs in this greenlet."""


class _Slot:
    """Where the unit of work of each greenlet is kept while it runs.

    A dictionary by greenlet costs a tenth of a `threading.local`, which would
    be made anew for every request; `Unit` takes itself out again at its end.
    """

    __slots__ = ("_units",)

    def __init__(self) -> None:
        self._units: dict[Any, Unit] = {}

    @property
    def unit(self) -> "Unit | None":
        """The innermost unit of work of this greenlet, or of this thread's main one."""
        return self._units.get(getcurrent())

    @unit.setter
    def unit(self, unit: "Unit | None") -> None:
        if unit is None:
            self._units.pop(getcurrent(), None)
        else:
            self._units[getcurrent()] = unit


slot = _Slot()


def current_unit() -> "Unit":
    """The innermost unit of work of this greenlet.

    :raises NoUnitOfWork: none runs.
    """
    unit = slot.unit
    if unit is None:
        raise NoUnitOfWork(
            "no unit of work runs in this greenlet; call this inside of "
            "nti.appserver.transactions.run, or in a request that it serves"
        )
    return unit


#: What the server's greenlets call the transaction manager that they keep.
_MANAGER = "transaction.manager"


def greenlets_own() -> Any:
    """The transaction manager of this greenlet, made when first asked for.

    To make one for each request, and the room for it in a greenlet-local, would
    cost a tenth of the unit of work.
    """
    kept = getattr(getcurrent(), "kept", None)
    if kept is not None and _MANAGER not in kept:
        getcurrent().keep(_MANAGER, _touch, _is_as_new)
    return transaction.manager.manager


def _touch() -> None:
    assert transaction.manager.manager is not None


def _is_as_new() -> bool:
    """Whether the next request finds nothing that this one has left in its manager."""
    manager = transaction.manager.manager
    return (
        type(manager) is transaction.TransactionManager
        and manager._txn is None
        and not manager.explicit
        and not manager._synchs.data.data
        and len(manager.__dict__) == _ATTRIBUTES
        and len(transaction.manager.__dict__) == 1
    )


#: Attributes of a new manager.
_ATTRIBUTES = len(transaction.TransactionManager().__dict__)
