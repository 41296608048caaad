"""Request bodies that can be read again by another attempt.

What an attempt reads is kept, in memory up to a bound and on disk past it; past
a second bound nothing is kept, and the request cannot be tried again. Reading
waits for the client, as reading its source does.
"""

from collections.abc import Iterator
from tempfile import SpooledTemporaryFile
from typing import Any


class ReplayInput:
    """A `wsgi.input` that `rewind` takes back to its beginning.

    :param source: the server's `wsgi.input`.
    :param memory: bytes kept in memory; more go to a temporary file.
    :param limit: bytes kept in all; past it nothing is kept.
    """

    def __init__(self, source: Any, memory: int, limit: int) -> None:
        self._source = source
        self._memory = memory
        self._limit = limit
        self._kept: Any = None
        self._size = 0
        self._position = 0
        #: Whether all that was read is kept.
        self.replayable = True

    def rewind(self) -> None:
        """Begin again; `replayable` must be true."""
        self._position = 0

    def close(self) -> None:
        """Forget what was kept."""
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def __del__(self) -> None:
        self.close()

    def read(self, size: int | None = -1) -> bytes:
        """As a file's `read`."""
        return self._take("read", -1 if size is None else size)

    def readline(self, size: int | None = -1) -> bytes:
        """As a file's `readline`."""
        return self._take("readline", -1 if size is None else size)

    def readlines(self, hint: int = -1) -> list[bytes]:
        """As a file's `readlines`; `hint` is not needed."""
        return list(self)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.readline, b"")

    def _take(self, how: str, size: int) -> bytes:
        if self._position >= self._size:
            return self._read_on(how, size)
        self._kept.seek(self._position)
        data: bytes = getattr(self._kept, how)(size)
        self._position += len(data)
        whole = len(data) == size or (how == "readline" and data.endswith(b"\n"))
        if whole:
            return data
        return data + self._read_on(how, size - len(data) if size > 0 else size)

    def _read_on(self, how: str, size: int) -> bytes:
        data: bytes = getattr(self._source, how)(*(() if size < 0 else (size,)))
        if data and self.replayable:
            self._keep(data)
        return data

    def _keep(self, data: bytes) -> None:
        if self._size + len(data) > self._limit:
            self.replayable = False
            self.close()
            self._size = self._position = 0
            return
        if self._kept is None:
            self._kept = SpooledTemporaryFile(max_size=self._memory)  # noqa: SIM115
        self._kept.seek(self._size)
        self._kept.write(data)
        self._size += len(data)
        self._position = self._size
