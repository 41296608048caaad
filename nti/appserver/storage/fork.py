"""Databases belong to the process that opened them.

After a fork the threads, the locks' owners, the sockets and the file positions of a storage
are those of the parent. A database opened before is refused in the child with
the reason, at its first use, in place of a hang or a damaged file; to close it does nothing.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any, NoReturn
from weakref import WeakKeyDictionary

from ZODB.DB import DB

from nti.appserver.errors import ConfigurationError

#: What a use of a storage begins with, whoever uses it.
FIRST_CALLS = (
    "load",
    "loadBefore",
    "loadSerial",
    "loadBlob",
    "openCommittedBlobFile",
    "lastTransaction",
    "history",
    "undoInfo",
    "undoLog",
    "new_instance",
    "new_oid",
    "poll_invalidations",
    "pack",
    "tpc_begin",
)

_guarded: "WeakKeyDictionary[DB, str]" = WeakKeyDictionary()


def guard(database: DB, uri: str) -> None:
    """Make `database` unusable in every child that this process forks from now on."""
    _guarded[database] = uri


def _refuse_in_child() -> None:
    """Runs in the child, right after the fork, in its only thread."""
    for database, uri in list(_guarded.items()):
        refuse = _refusal(uri, os.getppid())
        database.open = refuse
        database.close = _nothing
        for storage in _storages(database):
            _replace(storage, "close", _nothing)
            for name in FIRST_CALLS:
                _replace(storage, name, refuse)
    _guarded.clear()


def _replace(storage: Any, name: str, function: Callable[..., Any]) -> None:
    if hasattr(storage, name):
        with contextlib.suppress(AttributeError):  # it has slots; what it calls is replaced
            setattr(storage, name, function)


def _nothing() -> None:
    """In place of `close`: what is there to close is the parent's."""


def _storages(database: DB) -> Iterator[Any]:
    """The storage of a database, what it is wrapped in, and those of connections that are open."""
    yield from (database.storage, database._mvcc_storage)
    for connection in list(getattr(database.pool, "all", ())):
        yield connection._storage


def _refusal(uri: str, parent: int) -> Callable[..., NoReturn]:
    def refuse(*args: Any, **options: Any) -> NoReturn:
        raise ConfigurationError(
            f"storage {uri!r} was opened in process {parent}, before it forked {os.getpid()}",
            "a database opened by the process that uses it",
            "open it after the fork, not while the application is imported in the arbiter",
        )

    return refuse


os.register_at_fork(after_in_child=_refuse_in_child)
