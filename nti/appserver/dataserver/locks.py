"""Locks between the processes of one site: who looks after it, who writes the index.

A lock is a file under the setting `var`, locked by the process that has it and
free again when that ends, however it ends. Taking one never waits.
"""

import fcntl
import os
from pathlib import Path

from nti.appserver.settings import Settings

#: The worker that shows the sign-in link and indexes at the start; held while it lives.
CARETAKER = "caretaker.lock"
#: The process that writes the index; held for one run.
INDEX = "index.lock"


class Busy(Exception):
    """Another process has the lock."""


class Lock:
    """One of the site's locks.

    :param name: CARETAKER or INDEX.
    """

    def __init__(self, settings: Settings, name: str) -> None:
        folder = Path(settings.var)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file = os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def take(self) -> None:
        """Take the lock.

        :raises Busy: another process has it.
        """
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy from None

    def release(self) -> None:
        """Give the lock back; the object is of no use afterwards."""
        os.close(self._file)
