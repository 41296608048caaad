"""Where the embedded server keeps its files, and the lock of its beginning and end."""

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
    :param runtime: the socket and the lock.
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
        for folder in (place.data, place.runtime):
            os.makedirs(folder, mode=0o700, exist_ok=True)
        return place

    @property
    def socket(self) -> str:
        return os.path.join(self.runtime, "zeo.sock")

    @property
    def lock(self) -> str:
        return os.path.join(self.runtime, "start.lock")

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


def try_lock(place: Place) -> int | None:
    """The descriptor that holds the lock until it is closed; None when another process holds it."""
    descriptor = os.open(place.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


@contextmanager
def locked(place: Place, seconds: float) -> Iterator[None]:
    """Hold the lock; switches while it waits for it.

    :raises ConfigurationError: others have held it for `seconds`.
    """
    deadline = time.monotonic() + seconds
    while (descriptor := try_lock(place)) is None:
        if time.monotonic() > deadline:
            raise ConfigurationError(
                f"another process has been starting or ending the storage for {seconds:g} s "
                f"(it holds {place.lock!r})",
                mend=f"see {place.log}",
            )
        time.sleep(LOCK_POLL_SECONDS)
    try:
        yield
    finally:
        os.close(descriptor)
