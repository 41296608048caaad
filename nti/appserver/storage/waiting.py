"""Waiting for a storage that another process still owns, or whose server is not there yet.

A FileStorage has one owner. When gunicorn reloads, the new worker starts while
the old one drains; it waits here, and says for whom. A database server may be
started after the site. No lock is held while it sleeps.
"""

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from zc.lockfile import LockError
from ZEO.Exceptions import ClientDisconnected
from ZODB.POSException import ConflictError

from nti.appserver.errors import ConfigurationError

logger = logging.getLogger(__name__)

#: Between attempts, from the first to the longest pause.
POLL_SECONDS = (0.1, 1.0)

#: What a driver of a database raises, by its names in PEP 249: when it cannot connect, and always.
UNABLE_TO_CONNECT, DATABASE_ERROR = "OperationalError", "DatabaseError"

#: What a database says of tables and functions that two processes make at a time.
MADE_BY_ANOTHER = ("already exists", "tuple concurrently updated")

_T = TypeVar("_T")


def until_open(attempt: Callable[[], _T], name: str, seconds: float) -> _T:
    """What `attempt` returns, called again while a lock is held or a server not there.

    :param name: what is waited for, for the log.
    :param seconds: how long, >= 0.
    :raises ConfigurationError: that is still so when the time is over.
    """
    deadline = time.monotonic() + seconds
    waited = False
    pause, longest = POLL_SECONDS
    while True:
        try:
            result = attempt()
        except Exception as problem:
            why = _worth_waiting(problem)
            if not why:
                raise
            if time.monotonic() >= deadline:
                raise _given_up(problem, why, name, seconds) from problem
            if not waited:
                waited = True
                logger.warning("storage %s: %s; waiting up to %g s", name, why, seconds)
            time.sleep(pause)
            pause = min(pause * 1.2, longest)
        else:
            if waited:
                logger.warning("storage %s: it is open now, going on", name)
            return result


def is_worth_it(problem: Exception) -> bool:
    """Whether an error of opening a storage may go away by itself."""
    return bool(_worth_waiting(problem))


def _worth_waiting(problem: Exception) -> str:
    """What is waited for; '' for an error that does not go away by itself."""
    if isinstance(problem, LockError):
        return f"another process holds its lock ({problem})"
    if isinstance(problem, ConflictError):
        return "another process is making its root object"
    names = {cls.__name__ for cls in type(problem).__mro__}
    if DATABASE_ERROR in names and any(said in str(problem) for said in MADE_BY_ANOTHER):
        return "another process is making its tables"
    if isinstance(problem, ClientDisconnected) or UNABLE_TO_CONNECT in names:
        said = " ".join(str(problem).split())
        return f"its server is not there ({said or type(problem).__name__})"
    return ""


def _given_up(problem: Exception, why: str, name: str, seconds: float) -> ConfigurationError:
    if isinstance(problem, LockError):
        return ConfigurationError(
            f"storage {name!r} belongs to another process ({problem}), "
            f"which kept it for {seconds:g} s",
            "a storage that no other process has open",
            "stop the other one; for more than one process use storage = embedded or zeo://",
        )
    return ConfigurationError(
        f"storage {name!r}: {why}, after {seconds:g} s",
        "a server that answers",
        "start it, or mend the setting storage; storage_wait says how long to wait",
    )
