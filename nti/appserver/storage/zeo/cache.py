"""ZEO's client cache, its file mapped into memory.

The format, the lookups and the eviction are ZEO's. Mapped, a hit costs no
system call, and neither greenlets nor the I/O thread let go of the interpreter's
lock in the middle of one. What is written is in the file whatever becomes of the
process. It is used by greenlets and by the I/O thread; each method holds the native lock for
its length and switches nowhere.
"""

import contextlib
import logging
import mmap
import os
from pathlib import Path
from struct import Struct
from typing import Any

import zc.lockfile
import ZEO.cache
from ZODB.utils import u64, z64

from nti.appserver.hub import native

logger = logging.getLogger(__name__)

#: So many workers find a cache of their own; the next ones use a temporary file.
SLOTS = 256

#: The head of an allocated record, up to and without its data.
_RECORD = Struct(">cI8s8s8sHI")

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class _MappedFile(mmap.mmap):
    """Stands in for the cache's file object."""

    def flush(self, *where: int) -> None:
        """Nothing: what is written is in the system's file cache at once."""


class ClientCache(ZEO.cache.ClientCache):  # type: ignore[misc]
    """A cache of `size` bytes in the file `path`, or in a temporary one.

    :raises OSError: there is no room for the file.
    :raises zc.lockfile.LockError: another process uses `path`.
    """

    f: Any

    def __init__(self, path: str | None = None, size: int = 200 * 1024**2, **options: Any) -> None:
        super().__init__(path, size, **options)
        self._lock = native.RLock()
        self._map()

    def _map(self) -> None:
        opened = self.f
        opened.flush()
        # A page for which the disk has no room would end the process when it is written.
        try:
            os.posix_fallocate(opened.fileno(), 0, self.maxsize)
        except OSError:
            opened.truncate(0)
            opened.close()
            raise
        self.f = _MappedFile(opened.fileno(), self.maxsize)
        self._opened = opened

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self.f.close()
            self.f = self._opened
            super().clear()
            self._map()

    def close(self) -> None:
        """Give the file up. A call that comes later finds nothing and stores nothing."""
        with self._lock:
            if self.f is None:
                return
            self.f.close()
            self.f = None
            self._opened.close()
            self._unsetup_trace()
        if hasattr(self, "_lock_file"):
            self._lock_file.close()

    def abandon(self) -> None:
        """In a forked child: whoever held the lock is not there, and the file is the parent's."""
        self._lock = native.RLock()
        self.f = None

    def loadBefore(self, oid: bytes, before_tid: bytes) -> Any:
        """The state of `oid` that was current before `before_tid`: data, its tid, the next or None.

        None when the cache does not have it.
        """
        with self._lock:
            if self.f is None:
                return None
            if u64(oid) in self.noncurrent:
                return super().loadBefore(oid, before_tid)
            at = self.current.get(oid)
            if at is None:
                return None
            view = self.f
            _, _, found, tid, _, _, length = _RECORD.unpack_from(view, at)
            assert found == oid, (at, oid, found)
            if tid >= before_tid:
                return None
            distance = self.currentofs - at
            if (distance if distance >= 0 else distance + self.maxsize) > self.rearrange:
                return super().loadBefore(oid, before_tid)  # moves it away from eviction
            self._n_accesses += 1
            start = at + _RECORD.size
            return view[start : start + length], tid, None

    def store(self, oid: bytes, start_tid: bytes, end_tid: bytes | None, data: bytes) -> None:
        with self._lock:
            if self.f is not None:
                super().store(oid, start_tid, end_tid, data)

    def invalidate(self, oid: bytes, tid: bytes | None) -> None:
        with self._lock:
            if self.f is not None:
                super().invalidate(oid, tid)

    def setLastTid(self, tid: bytes) -> None:
        with self._lock:
            if self.f is not None:
                super().setLastTid(tid)

    def getLastTid(self) -> bytes:
        """The last transaction seen; it is read as one attribute, so no lock is needed.

        `tpc_finish` sets it before the database has been told, holding the lock
        until it has: so a reader must wait for the lock then.
        """
        with self._lock:
            return self.tid or z64  # type: ignore[no-any-return]


def cache_for(folder: str | None, name: str, size: int) -> ClientCache:
    """A cache that no other process uses: the first free one of that name in `folder`.

    It is there again for the next process that asks, with all it knew, until
    the machine starts anew: after a loss of power its pages may be of different times.

    :param folder: made with mode 0700 when it is not there; None: a temporary file.
    :param name: tells storages apart; safe as part of a file name.
    """
    if folder is None:
        return ClientCache(None, size)
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        return _first_free(Path(folder), name, size)
    except OSError as problem:
        logger.warning(
            "no client cache of %d bytes in %s: %s; a temporary file serves, set cache_size or var",
            size,
            folder,
            problem.strerror,
        )
        return ClientCache(None, size)


def _first_free(folder: Path, name: str, size: int) -> ClientCache:
    boot = _boot()
    _remove_others(folder, name, boot)
    for slot in range(1, SLOTS + 1):
        path = folder / f"{name}-{boot}-{slot}.zec"
        try:
            return ClientCache(str(path), size)
        except zc.lockfile.LockError:
            continue
        except OSError:
            path.unlink(missing_ok=True)
            raise
    return ClientCache(None, size)


def _boot() -> str:
    try:
        return _BOOT_ID.read_text("ascii")[:8]
    except OSError:
        return "unknown"


def _remove_others(folder: Path, name: str, boot: str) -> None:
    for path in folder.glob(f"{name}-*.zec*"):
        if not path.name.startswith(f"{name}-{boot}-"):
            with contextlib.suppress(OSError):
                path.unlink()
