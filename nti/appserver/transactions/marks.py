"""Which objects are contended in any worker of this site: one page of shared memory and its locks.

A file of one byte for each bucket of objects lies in the site's runtime folder.
Whoever has a turn at an object holds the kernel's lock on its byte and has set
it; others look at it by a memory access alone. The kernel gives the lock up when
a process ends in whatever way. A byte that such a process leaves set sends the
next writer into the queue, who takes the lock and clears it.

Waiting for a lock is trying it again every millisecond, since the call that
waits would stop the hub. Who waits sets the byte as well, so nobody begins
between one turn and the next. Of each process one greenlet at most waits for a byte.
"""

import fcntl
import logging
import mmap
import os
import time
from pathlib import Path
from zlib import crc32

from nti.appserver.settings import Settings

logger = logging.getLogger("nti.appserver.transactions")

#: Buckets, a power of two; two objects in one merely wait for each other.
BUCKETS = 4096

#: Seconds between two tries of a lock that another process has.
_PAUSE = 0.001

_FILE = "turns"


def bucket_of(oid: bytes) -> int:
    """The bucket of an object."""
    return crc32(oid) & (BUCKETS - 1)


class Marks:
    """The file, opened by this process.

    :raises OSError: it cannot be made or opened.
    """

    def __init__(self, path: Path) -> None:
        self.pid = os.getpid()
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(self._descriptor).st_size < BUCKETS:
                os.ftruncate(self._descriptor, BUCKETS)
            self._bytes = mmap.mmap(self._descriptor, BUCKETS)
        except BaseException:
            os.close(self._descriptor)
            raise

    def is_set(self, bucket: int) -> bool:
        """Whether some process has a turn in a bucket."""
        return self._bytes[bucket] != 0

    def take(self, bucket: int, deadline: float) -> bool:
        """Wait for a bucket's lock and mark it; False: `deadline` (monotonic) came first."""
        while True:
            self._bytes[bucket] = 1  # who gave the lock up has cleared it
            if self._try(bucket):
                self._bytes[bucket] = 1  # perhaps only after that
                return True
            if time.monotonic() > deadline:
                return False
            time.sleep(_PAUSE)

    def give_back(self, bucket: int) -> None:
        """Clear the mark and give up the lock."""
        self._bytes[bucket] = 0
        fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, bucket)

    def close(self) -> None:
        """Give up all locks, and the file."""
        self._bytes.close()
        os.close(self._descriptor)

    def _try(self, bucket: int) -> bool:
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, bucket)
        except BlockingIOError:
            return False
        return True


def open_marks(settings: Settings) -> Marks | None:
    """The marks of a site, in its runtime folder; None where there is no such folder."""
    folder = Path(settings.runtime_dir or Path(settings.var, "run"))
    if not folder.is_dir():
        return None
    try:
        return Marks(folder / _FILE)
    except OSError as problem:
        logger.warning("workers do not see each other's turns: %s", problem)
        return None
