"""The process of the embedded server: `python -m` this module DATA RUNTIME SECONDS.

The process that was started forks the server and waits until it listens; its
exit status is 0 then and 1 otherwise, the reason printed. The server runs ZEO's
storage server in one thread, unpatched, in a session of its own, so that what is
typed at gunicorn's terminal does not reach it.

It ends when no process uses it and no arbiter is about to start one that will; SIGTERM has
it end as soon as no process uses it, a second one now.
"""

import contextlib
import faulthandler
import logging
import os
import signal
import sys
from typing import Any, NoReturn

from ZEO.StorageServer import StorageServer
from ZODB.FileStorage import FileStorage

from nti.appserver.storage.embedded import keepers
from nti.appserver.storage.embedded.place import Place, is_at, try_lock
from nti.appserver.storage.waiting import until_open

logger = logging.getLogger("nti.appserver.storage.embedded")

#: After the last process that used it, when no arbiter of such a one lives.
LINGER_SECONDS = 1.0

#: After the last worker, when its arbiter lives: another worker is about to come.
KEPT_SECONDS = 60.0

TICK_SECONDS = 0.25

#: A client that votes and then stops is cut off after this, as others wait to commit.
TRANSACTION_SECONDS = 60

#: The log is put aside at a start when it has grown to this.
LOG_BYTES = 10 * 1024 * 1024

#: Transactions whose invalidations are kept, for clients that connect anew.
REMEMBERED = 1000


class EmbeddedServer:
    """ZEO's server with an end. Everything runs in its loop, in the main thread."""

    def __init__(self, place: Place, storage: Any) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(place.socket)  # of a server that was killed: we own the storage
        self._place = place
        self._storage = storage
        # The classes of an application are its own; the server has no need of them.
        self._server = StorageServer(
            place.socket,
            {"1": storage},
            transaction_timeout=TRANSACTION_SECONDS,
            invalidation_queue_size=REMEMBERED,
            client_conflict_resolution=True,
        )
        self._loop = self._server.acceptor.event_loop
        self._inode = os.stat(place.socket).st_ino
        self._alone_for = 0.0
        self._asked_to_end = False

    def run(self) -> None:
        """Serve until the end; afterwards the storage is closed."""
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        self._loop.add_signal_handler(signal.SIGTERM, self._asked)
        self._loop.call_later(TICK_SECONDS, self._tick)
        try:
            self._loop.run_forever()
        finally:
            self._storage.close()
            logger.info("ended")

    def _asked(self) -> None:
        logger.info("told to end")
        if self._asked_to_end:
            self._loop.stop()
        self._asked_to_end = True

    def _tick(self) -> None:
        try:
            over = self._is_over()
        except OSError as problem:
            logger.error("cannot see who uses this server: %s", problem)
            over = False
        if over:
            self._loop.stop()
        else:
            self._loop.call_later(TICK_SECONDS, self._tick)

    def _is_over(self) -> bool:
        """Whether to end, the socket removed."""
        if not is_at(self._place.socket, self._inode):
            logger.warning("%s was removed; a client may start another", self._place.socket)
            return True
        if not self._unused_for_long():
            return False
        for path in (self._place.socket, self._place.keepers):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        return True

    def _unused_for_long(self) -> bool:
        """Whether to end; both locks are then held until this process has ended."""
        starting = try_lock(self._place.start_lock)
        users = try_lock(self._place.users_lock) if starting is not None else None
        self._alone_for = self._alone_for + TICK_SECONDS if users is not None else 0.0
        if users is not None and (self._asked_to_end or self._alone_for >= self._linger()):
            return True
        for lock in (users, starting):
            if lock is not None:
                lock.release()
        return False

    def _linger(self) -> float:
        return KEPT_SECONDS if keepers.any_lives(self._place.keepers) else LINGER_SECONDS


def main(arguments: list[str]) -> NoReturn:
    """Start a server; returns to nobody: both processes exit."""
    data, runtime, seconds = arguments
    place = Place(data, runtime)
    _close_inherited()
    os.umask(0o077)
    told, tell = os.pipe()
    if os.fork():
        os.close(tell)
        listens = os.read(told, 1) == b"1"
        os._exit(0 if listens else 1)
    os.close(told)
    os.setsid()
    _log_to(place)
    try:
        server = EmbeddedServer(place, _storage(place, float(seconds)))
        logger.info("serving %s to %s", place.file, place.socket)
        os.write(tell, b"1")
        os.close(tell)
        server.run()
    except Exception as problem:
        logger.error("%s", problem, exc_info=not isinstance(problem, OSError))
        _exit(1)
    _exit(0)


def _exit(status: int) -> NoReturn:
    """End now, without waiting for a pack in a thread: its file is made anew another time."""
    logging.shutdown()
    os._exit(status)


def _close_inherited() -> None:
    """gunicorn's listening sockets are inherited; while we had them the port would stay taken."""
    for descriptor in [int(name) for name in os.listdir("/proc/self/fd")]:
        if descriptor > 2:
            with contextlib.suppress(OSError):
                os.close(descriptor)


def _is_worth_a_line(record: logging.LogRecord) -> bool:
    """A client that was killed is not an error of the server."""
    return not str(record.msg).startswith("Disconnected")


def _log_to(place: Place) -> None:
    """Standard error is the log already, opened by who started us."""
    if os.path.getsize(place.log) > LOG_BYTES:
        os.replace(place.log, place.log + ".1")
        fresh = os.open(place.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(fresh, 1)
        os.dup2(fresh, 2)
        os.close(fresh)
    faulthandler.enable()
    logging.basicConfig(
        format=f"%(asctime)s [{os.getpid()}] %(levelname)s %(name)s: %(message)s",
        level=logging.WARNING,
    )
    logger.setLevel(logging.INFO)
    logging.getLogger("ZEO.asyncio.server").addFilter(_is_worth_a_line)


def _storage(place: Place, seconds: float) -> FileStorage:
    def opened() -> FileStorage:
        # A pack that kept what it removes, in Data.fs.old, would give back no room.
        return FileStorage(place.file, blob_dir=place.blobs, pack_keep_old=False)

    return until_open(opened, place.file, seconds)


if __name__ == "__main__":
    main(sys.argv[1:])
