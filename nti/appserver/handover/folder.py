"""A folder of unix sockets in which the workers of a site find each other.

Each worker has a socket of its own there, so nothing stands between them and
nothing has to be started. Nothing here waits or switches; a look at the folder
is one `stat` where nothing has changed.
"""

import atexit
import contextlib
import os
import time
from pathlib import Path

from gevent import socket

from nti.appserver.settings import Settings

SUFFIX = ".sock"

#: The kernel's clock for files moves in steps of up to 10 ms: a folder that has changed within the
#: last of them may change again and look the same.
SETTLED_NANOSECONDS = 50_000_000

#: The longest path that a unix address holds, with some to spare.
MAX_ADDRESS = 100


def folder_for(settings: Settings, name: str) -> Path:
    """Where the sockets for `name` of a site's workers are."""
    return Path(settings.runtime_dir or os.path.join(settings.var, "run")) / name


class Folder:
    """The folder of sockets, and a way to address them however long its path is."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = -1
        self._changed = -1
        self._names: tuple[str, ...] = ()

    def address(self, name: str) -> str:
        """What to bind or connect to for the socket of that name."""
        address = str(self.path / name)
        if len(os.fsencode(address)) <= MAX_ADDRESS:
            return address
        if self._descriptor < 0:
            self._descriptor = os.open(self.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        return f"/proc/self/fd/{self._descriptor}/{name}"

    def names(self) -> tuple[str, ...]:
        """The sockets that are there; one `stat` where nothing has changed."""
        try:
            changed = os.stat(self.path).st_mtime_ns
            if changed == self._changed:
                return self._names
            self._names = tuple(n for n in os.listdir(self.path) if n.endswith(SUFFIX))
        except OSError:  # not there, or not to be read, which `listen` reports
            return ()
        settled = time.time_ns() - changed > SETTLED_NANOSECONDS
        self._changed = changed if settled else -1
        return self._names

    def listen(self, name: str, backlog: int) -> socket.socket:
        """A listening socket of that name; gone with the process, at the latest.

        The folder is made with mode 0700 when it is not there.

        :raises OSError: the folder cannot be used.
        """
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        try:
            # Nobody may find it before it listens: they would take it for one left behind.
            hidden = name.removesuffix(SUFFIX)
            listener.bind(self.address(hidden))
            listener.listen(backlog)
            os.rename(self.path / hidden, self.path / name)
        except OSError:
            listener.close()
            raise
        atexit.register(self.remove, name)
        return listener

    def remove(self, name: str) -> None:
        """Take a socket away that nobody listens on."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path / name)
