"""Where the embedded server keeps its files, and the two locks of its beginning and end.

The locks are of the system (flock(2)): they go with the process that holds them,
however that ends, and a forked child does not keep them. `locked` switches
while it waits; nothing else here waits.
"""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from nti.appserver.errors import ConfigurationError
from nti.appserver.settings import Settings

#: A unix socket's path has so many bytes at most on Linux (unix(7)), its end included.
SOCKET_PATH_BYTES = 107

LOCK_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Place:
    """The folders of one embedded server, absolute.

    :param data: the database, its blobs and the log.
    :param runtime: the socket and the locks.
    """

    data: str
    runtime: str

    @classmethod
    def of(cls, settings: Settings) -> "Place":
        """The place that settings name; its folders are made, with mode 0700.

        :raises ConfigurationError: the socket's path would be too long.
        """
        data = os.path.abspath(settings.var)
        place = cls(data, os.path.abspath(settings.runtime_dir or os.path.join(data, "run")))
        if len(os.fsencode(place.socket)) > SOCKET_PATH_BYTES:
            raise ConfigurationError(
                f"the path of the storage's socket, {place.socket!r}, is too long",
                f"at most {SOCKET_PATH_BYTES} bytes",
                "set runtime_dir to a folder with a shorter path",
            )
        place.make_folders()
        return place

    def make_folders(self) -> None:
        for folder in (self.data, self.runtime):
            os.makedirs(folder, mode=0o700, exist_ok=True)

    @property
    def socket(self) -> str:
        return os.path.join(self.runtime, "zeo.sock")

    @property
    def start_lock(self) -> str:
        """Held by whoever looks for the server, starts it or ends it."""
        return os.path.join(self.runtime, "start.lock")

    @property
    def users_lock(self) -> str:
        """Held, shared, by each process that uses the server."""
        return os.path.join(self.runtime, "users.lock")

    @property
    def keepers(self) -> str:
        """The arbiters whose workers use the server."""
        return os.path.join(self.runtime, "keepers")

    @property
    def file(self) -> str:
        return os.path.join(self.data, "Data.fs")

    @property
    def blobs(self) -> str:
        return os.path.join(self.data, "blobs")

    @property
    def caches(self) -> str:
        return os.path.join(self.data, "cache")

    @property
    def log(self) -> str:
        return os.path.join(self.data, "zeo.log")


class Lock:
    """A lock file that this process holds; `try_lock` makes one."""

    _all: set["Lock"] = set()

    def __init__(self, path: str, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor
        Lock._all.add(self)

    def release(self) -> None:
        """Let go of it; calling it again does nothing."""
        if self in Lock._all:
            Lock._all.remove(self)
            os.close(self._descriptor)

    def is_current(self) -> bool:
        """Whether the file is still there, so that others mean this lock by its path."""
        return is_at(self._path, os.fstat(self._descriptor).st_ino)

    @classmethod
    def forget_all(cls) -> None:
        """In a forked child: its copies of the descriptors would keep the locks."""
        for lock in list(cls._all):
            lock.release()


os.register_at_fork(after_in_child=Lock.forget_all)


def try_lock(path: str, *, shared: bool = False) -> Lock | None:
    """The lock of that file, which is made when it is not there; None when others hold it.

    :param shared: others may hold it shared, too.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return Lock(path, descriptor)


def is_at(path: str, inode: int) -> bool:
    """Whether the file of that number is still the one at `path`."""
    with contextlib.suppress(FileNotFoundError):
        return os.stat(path).st_ino == inode
    return False


@contextmanager
def locked(place: Place, seconds: float) -> Iterator[None]:
    """Hold the start lock; switches while it waits for it.

    :raises ConfigurationError: others have held it for `seconds`.
    """
    deadline = time.monotonic() + seconds
    while (lock := try_lock(place.start_lock)) is None:
        if time.monotonic() > deadline:
            raise ConfigurationError(
                f"another process has been starting or ending the storage for {seconds:g} s "
                f"(it holds {place.start_lock!r})",
                mend=f"see {place.log}",
            )
        time.sleep(LOCK_POLL_SECONDS)
    try:
        yield
    finally:
        lock.release()
