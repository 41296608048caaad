"""Finding the embedded server, starting it when it is not there, and opening its database.

Runs in the process that uses the database, in a greenlet or a native thread; it
waits by `time.sleep`, which switches in a patched process.
"""

import logging
import os
import socket
import sys
import time
from pathlib import Path

import gevent
from ZODB.DB import DB

from nti.appserver.children import python_environ
from nti.appserver.errors import ConfigurationError
from nti.appserver.hub.threads import NativeThread, bell_here
from nti.appserver.hub.waking import Call
from nti.appserver.settings import Settings
from nti.appserver.storage.embedded import keepers
from nti.appserver.storage.embedded.place import Lock, Place, locked, try_lock
from nti.appserver.storage.wrap import database_around
from nti.appserver.storage.zeo.client import ClientStorage
from nti.appserver.worker.deferred import in_worker

logger = logging.getLogger(__name__)

SERVER = "nti.appserver.storage.embedded.server"

POLL_SECONDS = 0.02

PROBE_SECONDS = 1.0

#: Between looks for a server that was lost.
KEEP_SECONDS = 1.0

#: Of the server's log, so much is shown when it could not start.
SHOWN_LINES = 15


class EmbeddedStorage(ClientStorage):
    """A client of the embedded server, which it starts, and starts again when it is lost.

    Made while the caller holds the start lock.

    :param patience: seconds, > 0, for a server's start.
    :raises ConfigurationError: the server cannot be started; the end of its log is shown.
    """

    def __init__(self, place: Place, patience: float) -> None:
        self._place = place
        self._patience = patience
        self._bell = bell_here()
        self._keeping = False
        self._use = _use(place)
        try:
            start_server(place, patience)
            super().__init__(place.socket, blob_dir=place.blobs, shared_blob_dir=True)
        except BaseException:
            self._use.release()
            raise

    def close(self) -> None:
        super().close()
        self._use.release()

    def notify_disconnected(self) -> None:
        """I/O thread."""
        super().notify_disconnected()
        if self._bell is not None:
            self._bell.ring(Call(gevent.spawn, self._keep))
        else:
            NativeThread(self._keep, "embedded ZEO server's keeper").start()

    def _keep(self) -> None:
        """Have a server until the connection is back; ZEO's client finds it by itself."""
        if self._keeping:
            return
        self._keeping = True
        try:
            while not self._server.is_closed() and not self.is_connected():
                try:
                    self._place.make_folders()
                    with locked(self._place, self._patience):
                        if not self._server.is_closed():
                            self._use_anew()
                            start_server(self._place, self._patience)
                except (ConfigurationError, OSError) as problem:
                    logger.error("the storage's server is gone and cannot be started: %s", problem)
                time.sleep(KEEP_SECONDS)
        finally:
            self._keeping = False

    def _use_anew(self) -> None:
        """Be known to the next server too, where somebody has removed the folder of the locks."""
        if not self._use.is_current():
            self._use.release()
            self._use = _use(self._place)


def open_embedded(settings: Settings, patience: float) -> DB:
    """The database of the embedded server, which is started when it does not run.

    :param patience: seconds, > 0, for each of its steps.
    :raises ConfigurationError: the server cannot be started; the end of its log is shown.
    """
    place = Place.of(settings)
    with locked(place, patience):
        storage = EmbeddedStorage(place, patience)
    return database_around(storage, pool_size=settings.connection_limit)


def _use(place: Place) -> Lock:
    """Keep the server from ending; the caller holds the start lock, so the server does not try."""
    lock = try_lock(place.users_lock, shared=True)
    if lock is None:
        raise ConfigurationError(
            f"another program has {place.users_lock!r} for itself alone",
            "a file that only nti.appserver uses",
            "end that program",
        )
    if in_worker():
        keepers.note_parent(place.keepers)
    return lock


def start_server(place: Place, patience: float) -> None:
    """Return when a server listens; the caller holds the lock.

    :raises ConfigurationError: it could not be started.
    """
    if listens(place):
        return
    began = _size(place.log)
    with open(os.devnull, "rb") as nothing, open(place.log, "ab") as log:
        pid = os.posix_spawn(
            sys.executable,
            [sys.executable, "-m", SERVER, place.data, place.runtime, f"{patience:g}"],
            python_environ(),
            file_actions=[
                (os.POSIX_SPAWN_DUP2, nothing.fileno(), 0),
                (os.POSIX_SPAWN_DUP2, log.fileno(), 1),
                (os.POSIX_SPAWN_DUP2, log.fileno(), 2),
            ],
            setsid=True,  # what is sent to gunicorn's process group is not for it
        )
    # This process ends when the server that it has forked listens, or could not.
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            break
        time.sleep(POLL_SECONDS)
    if os.waitstatus_to_exitcode(status):
        raise ConfigurationError(
            f"the storage's server could not start:\n{_end_of(place.log, began)}",
            mend=f"mend that and start again; its log is {place.log}",
        )


def listens(place: Place) -> bool:
    """Whether a server listens; it may be stopped or busy, but it is there."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(PROBE_SECONDS)
        try:
            probe.connect(place.socket)
            probe.recv(64)  # its greeting; unread it would be a reset in the server's log
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except (TimeoutError, BlockingIOError):
            return True
    return True


def _size(path: str) -> int:
    try:
        return os.path.getsize(path)
    except FileNotFoundError:
        return 0


def _end_of(path: str, start: int) -> str:
    with Path(path).open("rb") as log:
        log.seek(start)
        lines = log.read().decode("utf-8", "replace").splitlines()
    return "\n".join(f"  {line}" for line in lines[-SHOWN_LINES:])
