"""Which unit of work runs in this greenlet.

Only the greenlet-local slot lives here. In a patched process `threading.local`
is gevent's, so the slot belongs to a greenlet; elsewhere it belongs to a
thread. A spawned greenlet finds it empty.
"""

import threading
from typing import TYPE_CHECKING

from gevent.local import local as greenlet_local

from nti.appserver.errors import AppServerError

if TYPE_CHECKING:
    from nti.appserver.transactions.units import Unit

#: Whether units of work belong to greenlets; else to threads, and nothing kills them.
GREENLETS: bool = threading.local is greenlet_local


class NoUnitOfWork(AppServerError):
    """Something needs a unit of work, and none runs in this greenlet."""


class _Slot(threading.local):
    unit: "Unit | None" = None


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
