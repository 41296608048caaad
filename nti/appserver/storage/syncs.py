"""FileStorages whose commits share the disk's writes.

A FileStorage waits for the disk (`fsync`) once for each commit, one commit
after the other, and stops every greenlet meanwhile. Here a commit writes to the
file as before, lets the next one write, and returns once the file has been
synced after that: by a native thread, at one time for all that have come.

What holds: a commit that has returned is on disk, and so is all before it,
since the file is a log. What does not: others may read what a commit has
written while it still waits for the disk. Their own commits come after it in
the log; but what they only tell a client may be lost with it when the power fails.
"""

import os
from collections.abc import Callable
from typing import Any

import gevent
import ZODB.utils
from ZODB.blob import BlobStorage
from ZODB.DB import DB
from ZODB.FileStorage import FileStorage
from ZODB.POSException import StorageSystemError

from nti.appserver.hub import native


def share_syncs(db: DB) -> None:
    """Have the commits of a database share syncs, where it is in a FileStorage.

    Nothing in a process that is not patched: there threads run during a sync as it is.
    """
    storage = db.storage
    file = storage._BlobStorage__storage if type(storage) is BlobStorage else storage
    if not native.is_patched() or type(file) is not FileStorage or file.isReadOnly():
        return
    file.__class__ = SyncedFileStorage
    file._syncs = Syncs(file._duplicate)
    if storage is not file:
        file.is_wrapped = True
        storage.__class__ = SyncedBlobStorage


class SyncedFileStorage(FileStorage):  # type: ignore[misc]
    """A FileStorage whose `tpc_finish` waits for the disk after it has let go of its locks."""

    #: `tpc_finish` lets nobody else run until what it has written is there to be read.
    finishes_at_once = True
    _syncs: "Syncs"
    #: Whether the storage around it waits for the disk.
    is_wrapped = False

    def tpc_finish(self, transaction: Any, f: Callable[[bytes], object] | None = None) -> bytes:
        """Finish a commit; return when it is on disk.

        :raises ZODB.POSException.StorageSystemError: the file could not be synced; the
            storage is closed, and some of this commit may be on disk.
        """
        tid: bytes = super().tpc_finish(transaction, f)
        if not self.is_wrapped:
            self.reach_disk()
        return tid

    def lastTransaction(self) -> bytes:
        """The last commit that is in the file; a look that needs no lock, for every request."""
        ltid: bytes = self._ltid
        return ltid

    def reach_disk(self) -> None:
        """Return when all that is written by now is on disk; raises as `tpc_finish`."""
        try:
            self._syncs.wait()
        except OSError as problem:
            super().close()
            raise StorageSystemError(f"{self._file_name} cannot be synced: {problem}") from problem

    def _finish_finish(self, tid: bytes) -> None:
        """As FileStorage's own, but for the sync."""
        self._file.flush()
        self._pos = self._nextpos
        self._index.update(self._tindex)
        self._ltid = tid
        self._blob_tpc_finish()
        self._syncs.written += 1

    def pack(self, *args: Any, **options: Any) -> Any:
        """Pack; the new file is on disk when this returns."""
        result = super().pack(*args, **options)
        self._syncs.written += 1
        self.reach_disk()
        return result

    def close(self) -> None:
        """Close; all that is written is on disk then."""
        try:
            if not self._file.closed:
                self._syncs.wait()
        finally:
            super().close()

    def _duplicate(self) -> int:
        """A file descriptor of the file as it is now, for the caller to close."""
        with self._lock:
            self._file.flush()
            return os.dup(self._file.fileno())


class SyncedBlobStorage(BlobStorage):  # type: ignore[misc]
    """A BlobStorage around one, which waits when it has itself noted the end of the commit.

    Before, another commit that aborts would take this one's blobs for its own.
    """

    def tpc_finish(self, *arguments: Any, **options: Any) -> bytes:
        """Finish a commit; return when it is on disk."""
        tid: bytes = super().tpc_finish(*arguments, **options)
        self.reach_disk()
        return tid

    def lastTransaction(self) -> bytes:
        ltid: bytes = self._BlobStorage__storage._ltid
        return ltid


class Syncs:
    """Syncs of one file: whoever comes while one is under way shares the next.

    :param duplicate: gives a file descriptor, to be synced and closed here.
    """

    def __init__(self, duplicate: Callable[[], int]) -> None:
        self._duplicate = duplicate
        self._changed = ZODB.utils.Condition()
        self._under_way = False
        self._problem: OSError | None = None
        #: How many commits are in the file, and how many of them are on disk.
        self.written = self._synced = 0

    def wait(self) -> None:
        """Return when all that is written by now is on disk.

        :raises OSError: it cannot be synced, or something before it could not.
        """
        written = self.written
        with self._changed:
            while self._under_way and self._synced < written:
                self._changed.wait()
            if self._problem is not None:
                # Another sync might succeed: the system has dropped what it could not write.
                raise self._problem
            if self._synced >= written:
                return
            self._under_way = True
        covered = 0
        try:
            covered = self._sync()
        except OSError as problem:
            self._problem = problem
            raise
        finally:
            with self._changed:
                self._synced = max(self._synced, covered)
                self._under_way = False
                self._changed.notify_all()

    def _sync(self) -> int:
        """Sync; how many commits were in the file before."""
        written = self.written
        gevent.get_hub().threadpool.apply(_sync_and_close, (self._duplicate(),))
        return written


def _sync_and_close(descriptor: int) -> None:
    """Runs in a native thread, to its end though the greenlet that waits for it is killed."""
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
