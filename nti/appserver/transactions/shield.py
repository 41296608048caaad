"""Running something to its end although the greenlet is killed or timed out.

A kill or a `gevent.Timeout` is an exception that arrives where a greenlet
waits. What must not be left half done runs in a greenlet of its own, which
nobody else knows and so nobody can kill; the caller's greenlet waits for its
end, keeps the first exception that arrives meanwhile, and hands it back.

The greenlet is entered by a direct switch and ends in its parent, the caller:
without waiting, no turn of the hub is spent.
"""

from collections.abc import Callable
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

import gevent
import transaction
from greenlet import getcurrent, greenlet

from nti.appserver.transactions.current import GREENLETS, slot

if TYPE_CHECKING:
    from nti.appserver.transactions.units import Unit


def shielded(unit: "Unit | None", func: Callable[..., object], *args: Any) -> BaseException | None:
    """Call `func(*args)`; what arrived meanwhile, a kill or a timeout, or None.

    It sees the unit of work and the transaction manager of the caller's
    greenlet, but none of the caller's other greenlet-local values. An exception
    of `func` itself is raised here, and then nothing that arrived is told.
    Where there are no greenlets it is called directly.
    """
    if not GREENLETS:
        outer, slot.unit = slot.unit, unit
        try:
            func(*args)
        finally:
            slot.unit = outer
        return None
    manager = transaction.manager.manager
    failed: list[BaseException] = []

    def work() -> None:
        transaction.manager.manager = manager
        slot.unit = unit
        try:
            func(*args)
        except BaseException as problem:
            failed.append(problem)
        finally:
            slot.unit = None

    arrived: BaseException | None = None
    runner = greenlet(work, getcurrent())
    runner.gr_context = copy_context()
    switch: Callable[[], object] = runner.switch
    while not runner.dead:
        try:
            switch()
        except BaseException as problem:
            arrived = arrived or problem
        # It waits in the hub, which alone may enter it again; its end comes here.
        switch = gevent.get_hub().switch
    if failed:
        raise failed.pop()
    return arrived


def is_own_failure(problem: BaseException) -> bool:
    """Whether what a shielded call has raised says no more than that it failed.

    A timeout or a kill is one there, since none from outside gets in. The others
    (`KeyboardInterrupt`, `SystemExit`) are meant for the whole process.
    """
    return isinstance(problem, Exception) or (
        GREENLETS and isinstance(problem, (gevent.GreenletExit, gevent.Timeout))
    )
