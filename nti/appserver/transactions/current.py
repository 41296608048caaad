"""Which unit of work runs in this greenlet.

Only that slot lives here. A spawned greenlet, and a new thread, find it empty.
"""

import threading
from typing import TYPE_CHECKING, Any

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
