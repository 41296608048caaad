"""A bound for RelStorage's waits for its database.

gevent's drivers wait until the database answers, and in the last moments of a commit they stop
the whole worker for it. A database that is stopped, or behind a network that is cut, would
be waited for without an end.

`bound_waits` is called by the main greenlet when a storage is opened; the waits themselves are in
any greenlet, and switch, or stop the thread where RelStorage wants that.
"""

from typing import Any

#: What RelStorage's drivers wait with, before it was bounded.
_originals: dict[str, Any] = {}


def bound_waits(seconds: float) -> None:
    """Have a wait end with the driver's error for a lost connection after `seconds`, > 0."""
    from relstorage.adapters import drivers

    if not _originals:
        _originals.update(wait=drivers.wait, select=drivers.blocking_select)
    wait, select = _originals["wait"], _originals["select"]
    error = _lost()

    def bounded_wait(watcher: Any, hub: Any = None) -> Any:
        return wait(watcher, timeout=seconds, timeout_exc=error(_said(seconds)), hub=hub)

    def bounded_select(*descriptors: Any) -> Any:
        ready = select(*descriptors, seconds)
        if not any(ready):
            raise error(_said(seconds))
        return ready

    drivers.wait, drivers.blocking_select = bounded_wait, bounded_select


def _said(seconds: float) -> str:
    return f"the database has not answered for {seconds:g} s"


def _lost() -> type[Exception]:
    """What RelStorage takes for a lost connection; psycopg2 closes it."""
    try:
        from psycopg2 import OperationalError  # type: ignore[import-untyped]
    except ImportError:
        return TimeoutError
    return OperationalError  # type: ignore[no-any-return]
