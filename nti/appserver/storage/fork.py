"""Databases belong to the process that opened them.

After a fork the threads, the locks' owners and the file positions of a storage
are those of the parent. A database opened before is refused in the child with
the reason, at its first use, in place of a hang or a damaged file.
"""

import os
from typing import Any, NoReturn
from weakref import WeakKeyDictionary

from ZODB.DB import DB

from nti.appserver.errors import ConfigurationError

_guarded: "WeakKeyDictionary[DB, str]" = WeakKeyDictionary()


def guard(database: DB, uri: str) -> None:
    """Make `database` unusable in every child that this process forks from now on."""
    _guarded[database] = uri


def _refuse_in_child() -> None:
    """Runs in the child, right after the fork, in its only thread."""
    parent = os.getppid()
    for database, uri in list(_guarded.items()):

        def refuse(*args: Any, uri: str = uri, **options: Any) -> NoReturn:
            raise ConfigurationError(
                f"storage {uri!r} was opened in process {parent}, before it forked {os.getpid()}",
                "a database opened by the process that uses it",
                "open it after the fork, not while the application is imported in the arbiter",
            )

        database.open = refuse
    _guarded.clear()


os.register_at_fork(after_in_child=_refuse_in_child)
