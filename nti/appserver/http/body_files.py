"""Large bodies that an application keeps, as files in memory: sent without being copied.

The kernel copies what it is to send, unless it comes from a file. That copy is most of what a
large response costs, and more where the machine is busy. So a body that an application keeps, an
object's bytes or a rendered page, becomes a file when it is sent for the second time.

Whether it is the same is a matter of identity, not of content: bytes do not change, and what is
remembered here is held, so that no other object can have its identity.

Used in the greenlets that serve; nothing here switches.
"""

import fcntl
import os
from collections.abc import Callable
from logging import Logger
from sys import getrefcount

from nti.appserver.metrics import Counter, Gauge

#: Smaller bodies are copied.
LEAST = 128 * 1024

#: So many bodies are remembered at most; each may need a descriptor.
MOST_BODIES = 128

#: Whether the system has such files.
AVAILABLE = hasattr(os, "memfd_create")

#: References to what one container holds, as `getrefcount` sees them with its own.
HELD_ONCE = 2

sent = Counter("appserver_body_files_sent_total", "Responses sent from files in memory.")
size = Gauge(
    "appserver_body_files_bytes",
    "Bytes of the large response bodies that are remembered, to be files or files already.",
)


class BodyFile:
    """An open file, which is closed when nobody refers to it any more.

    What the kernel still has to send of it then stays what it is.
    """

    __slots__ = ("_number",)

    def __init__(self, number: int) -> None:
        self._number = number

    def fileno(self) -> int:
        """Its descriptor."""
        return self._number

    def __del__(self) -> None:
        os.close(self._number)


def file_with(body: bytes) -> BodyFile:
    """A file without a name that has this content, and that nobody can change.

    :raises OSError: there is no descriptor or no memory for it.
    """
    file = BodyFile(os.memfd_create("response body", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING))
    rest = memoryview(body)
    while rest:
        rest = rest[os.write(file.fileno(), rest) :]
    seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
    fcntl.fcntl(file.fileno(), fcntl.F_ADD_SEALS, seals)
    return file


class _Known:
    """A body that was sent, and its file when it has one."""

    __slots__ = ("body", "file")

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.file: BodyFile | None = None


class BodyFiles:
    """The large bodies that were sent last.

    :param most: their bytes, all together; those sent longest ago are forgotten first.
    """

    def __init__(self, most: int, log: Logger) -> None:
        self._most = most
        self._log = log
        #: By identity, in the order in which they were sent last.
        self._known: dict[int, _Known] = {}
        self._size = 0

    def file_of(self, body: bytes) -> BodyFile | None:
        """The file of a body that is sent again; None at the first time, and where it has none.

        Who sends it must hold it meanwhile: it may be forgotten at any switch.
        """
        known = self._known.pop(id(body), None)
        if known is None:
            self._remember(body)
            return None
        self._known[id(body)] = known
        if known.file is None:
            try:
                known.file = file_with(body)
            except OSError as problem:
                self._log.warning(
                    "Large bodies are copied from now on, not sent as files: %s", problem
                )
                self._most = 0
                self._forget(lambda each: True)
                return None
        sent.inc()
        return known.file

    def _remember(self, body: bytes) -> None:
        if len(body) > self._most:
            return
        if self._full(body):
            # What the application has let go of first, then what was sent longest ago.
            self._forget(lambda each: getrefcount(each.body) == HELD_ONCE)
            self._forget(lambda each: self._full(body))
        self._known[id(body)] = _Known(body)
        self._size += len(body)
        size.set(self._size)

    def _full(self, body: bytes) -> bool:
        return self._size + len(body) > self._most or len(self._known) >= MOST_BODIES

    def _forget(self, unwanted: Callable[[_Known], bool]) -> None:
        for each in list(self._known.values()):
            if unwanted(each):
                del self._known[id(each.body)]
                self._size -= len(each.body)
        size.set(self._size)
