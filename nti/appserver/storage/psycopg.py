"""psycopg2 waits by switching, whoever in this process uses it: SQLAlchemy, say, beside RelStorage.

It waits in C, where it would stop every greenlet of the worker; but it has one hook for all
connections, called in the greenlet that waits. RelStorage sets that when a process is
patched, to one that knows what RelStorage's own connections need, and fails with all others.

`wait_by_switching` is called after patching, before the application is imported. While the hook is
set psycopg2 refuses COPY and large objects, which libpq cannot wait for like that.
"""

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from gevent.socket import wait_read, wait_write

from nti.appserver.hub import native

Wait = Callable[[Any], None]


def wait_by_switching() -> None:
    """Have psycopg2 switch while it waits; a hook that an application has set is left alone.

    Nothing without psycopg2, in an unpatched process, and where RelStorage's hook
    was taken away again.
    """
    if not native.is_patched():
        return
    try:
        extensions = import_module("psycopg2.extensions")
        known = extensions.get_wait_callback()
        if known is None and find_spec("relstorage") is None:
            extensions.set_wait_callback(_waiting(extensions))
        elif type(known).__module__.startswith("relstorage."):
            extensions.set_wait_callback(_beside(known, _waiting(extensions)))
    except (ImportError, AttributeError):  # it is not here, or something else has its name
        return


def _waiting(extensions: Any) -> Wait:
    """What waits for a connection in gevent's hub."""
    ok, read, write = extensions.POLL_OK, extensions.POLL_READ, extensions.POLL_WRITE

    def wait(connection: Any) -> None:
        while (state := connection.poll()) != ok:
            if state == read:
                wait_read(connection.fileno())
            elif state == write:
                wait_write(connection.fileno())
            else:
                raise RuntimeError(f"psycopg2 waits for {state}, expected {ok}, {read} or {write}")

    return wait


def _beside(relstorages: Wait, other: Wait) -> Wait:
    """RelStorage's hook for its own connections, `other` for all others."""

    def wait(connection: Any) -> None:
        own = hasattr(connection, "gevent_generic_wait_read")
        (relstorages if own else other)(connection)

    return wait
