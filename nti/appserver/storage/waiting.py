"""Waiting for a storage that another process still owns.

A FileStorage has one owner. When gunicorn reloads, the new worker starts while
the old one drains; it waits here, and says for whom. No lock is held while
it sleeps.
"""

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from zc.lockfile import LockError

from nti.appserver.errors import ConfigurationError

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.1

_T = TypeVar("_T")


def until_free(attempt: Callable[[], _T], name: str, seconds: float) -> _T:
    """What `attempt` returns, called again while another process holds the lock it needs.

    :param name: what is waited for, for the log.
    :param seconds: how long, >= 0.
    :raises ConfigurationError: the lock is still held when the time is over.
    """
    deadline = time.monotonic() + seconds
    waited = False
    while True:
        try:
            result = attempt()
        except LockError as problem:
            if time.monotonic() >= deadline:
                raise ConfigurationError(
                    f"storage {name!r} belongs to another process ({problem}), "
                    f"which kept it for {seconds:g} s",
                    "a storage that no other process has open",
                    "stop the other one; for more than one process use storage = embedded or zeo://",
                ) from None
            if not waited:
                waited = True
                logger.warning(
                    "storage %s: another process holds its lock (%s); waiting up to %g s",
                    name,
                    problem,
                    seconds,
                )
            time.sleep(POLL_SECONDS)
        else:
            if waited:
                logger.warning("storage %s: the lock is free, going on", name)
            return result
