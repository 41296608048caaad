"""What one worker does after it has started: show the sign-in link, bring the index up to date.

A greenlet of the worker runs it. With several workers the lock on a file under
the setting `var` lets one of them do it, and another go on when that one ends.
Between two pages the greenlet lets requests run; each batch is a unit of work.
"""

import fcntl
import logging
import os
from pathlib import Path
from typing import Any

import gevent

from nti.appserver.dataserver.library.files import Library
from nti.appserver.dataserver.library.indexing import IndexRun
from nti.appserver.dataserver.signin import invitation
from nti.appserver.settings import Settings
from nti.appserver.transactions import run

logger = logging.getLogger("nti.appserver.dataserver")

LOCK_NAME = "dataserver.lock"

#: Seconds between two attempts to get the lock that another process holds.
LOCK_SECONDS = 2.0

#: Characters of text in a batch: smaller than the command's, for the sake of those who wait.
BATCH_TEXT = 500_000


class Busy(Exception):
    """Another process holds the lock."""


class Lock:
    """The lock of the process that looks after the index; given back when the process ends."""

    def __init__(self, settings: Settings) -> None:
        folder = Path(settings.var)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def take(self) -> None:
        """Take the lock.

        :raises Busy: another process has it.
        """
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy from None

    def release(self) -> None:
        os.close(self._file)


def start(settings: Settings, library: Library) -> Any:
    """Start the greenlet; it runs when the worker next waits for something."""
    return gevent.spawn(_look_after, settings, library)


def _look_after(settings: Settings, library: Library) -> None:
    lock = Lock(settings)
    while True:
        try:
            lock.take()
            break
        except Busy:
            gevent.sleep(LOCK_SECONDS)
    try:
        run(invitation.ensure, settings)
        invitation.show(settings)
        summary = IndexRun(library, pause=_let_others_run, batch_text=BATCH_TEXT)()
    except Exception:
        logger.exception("the index is not up to date; `nti-appserver index` tries again")
    else:
        logger.info(
            "%d pages in the library, %d of them indexed now, in %.1f s",
            summary.total,
            summary.indexed,
            summary.seconds,
        )
    finally:
        lock.release()


def _let_others_run() -> None:
    gevent.sleep(0)
