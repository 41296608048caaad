"""The files of a library: which pages there are, and opening one safely.

Only reading from the file system lives here. It blocks for as long as the disk
takes and never switches greenlets. A path is what stands behind /library/ in
an address: names with slashes between them, relative to the library's folder.

A library may be anyone's files, so nothing outside of its folder is ever
opened: not by `..`, not through a symbolic link, not when a folder is swapped
for a link between looking and opening. Hidden names are as if they were not
there.
"""

import logging
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from nti.appserver.errors import ConfigurationError

PAGE_SUFFIXES = frozenset({".html", ".htm", ".xhtml"})
INDEX_NAMES = ("index.html", "index.htm")

#: The name in an address that asks for a search; a folder of this name would have no address.
SEARCH_NAME = "Search"

#: Characters of a path that may be asked for.
PATH_LIMIT = 1024

logger = logging.getLogger("nti.appserver.dataserver")


class NotInLibrary(LookupError):
    """There is no such file or folder, or it is not inside of the library."""


@dataclass(frozen=True, slots=True)
class PageFile:
    """A page as the file system shows it.

    :param modified: nanoseconds since 1970.
    :param size: bytes.
    """

    path: str
    modified: int
    size: int


@dataclass(frozen=True, slots=True)
class OpenFile:
    """A file of the library that the caller reads and closes.

    :param modified: nanoseconds since 1970.
    :param size: bytes.
    """

    path: str
    file: BinaryIO
    modified: int
    size: int


def unit_of(path: str) -> str:
    """The unit that a page belongs to: its folder; '' is the library's own."""
    return path.rpartition("/")[0]


def is_page(path: str) -> bool:
    """Whether the name is that of an HTML page."""
    return PurePosixPath(path).suffix.lower() in PAGE_SUFFIXES


class Library:
    """A folder of content units.

    :param root: the folder; it may itself be a symbolic link.
    :raises ConfigurationError: it is not a folder that can be read.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root).resolve()
        self._left_out: set[str] = set()
        if not self.root.is_dir() or not os.access(self.root, os.R_OK | os.X_OK):
            raise ConfigurationError(
                f"setting library is {os.fspath(root)!r}",
                "a folder that can be read, with HTML pages in it or in folders below it",
            )

    def pages(self) -> Iterator[PageFile]:
        """Every page, folder by folder; folders that are symbolic links are left out.

        So is a folder that cannot be read, and the log says so once.

        :raises OSError: the library itself cannot be read any more.
        """
        yield from self._pages_among(_entries(self.root), "")

    def _pages_among(self, entries: "list[os.DirEntry[str]]", prefix: str) -> Iterator[PageFile]:
        folders = []
        for entry in entries:
            path = prefix + entry.name
            if not _is_plain(entry.name) or len(path) > PATH_LIMIT:
                continue
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry)
            elif is_page(entry.name) and (found := self._page(entry, path)):
                yield found
        for folder in folders:
            if folder.name != SEARCH_NAME:
                yield from self._pages_among(self._entries_of(folder), f"{prefix}{folder.name}/")

    def _entries_of(self, folder: "os.DirEntry[str]") -> "list[os.DirEntry[str]]":
        try:
            return _entries(folder.path)
        except OSError as problem:  # not ours to read, or gone since
            if folder.path not in self._left_out:
                self._left_out.add(folder.path)
                logger.warning("%s is left out: %s", folder.path, problem.strerror)
            return []

    def _page(self, entry: "os.DirEntry[str]", path: str) -> PageFile | None:
        try:
            if entry.is_symlink():
                self._inside(Path(entry.path))
            status = entry.stat()
        except (OSError, ValueError):  # gone since, or a link that leads out or nowhere
            return None
        if not stat.S_ISREG(status.st_mode):
            return None
        return PageFile(path, status.st_mtime_ns, status.st_size)

    def open(self, path: str) -> OpenFile:
        """Open a file for reading.

        :raises NotInLibrary: there is none, it is no plain file, or it leads out.
        """
        descriptor = self._descriptor(path, os.O_RDONLY)
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            os.close(descriptor)
            raise NotInLibrary(path)
        file = os.fdopen(descriptor, "rb")
        return OpenFile(path, file, status.st_mtime_ns, status.st_size)

    def is_folder(self, path: str) -> bool:
        """Whether there is such a folder in the library; '' is its own."""
        try:
            os.close(self._descriptor(path, os.O_RDONLY | os.O_DIRECTORY))
        except NotInLibrary:
            return False
        return True

    def _descriptor(self, path: str, flags: int) -> int:
        """Open the file that `path` resolves to, refusing any link on the way to it.

        Links are resolved first, so those that stay inside work; then each
        folder is opened in its parent's descriptor and must not be a link, so
        that a swap in the meantime is an error and not a way out.
        """
        names = path.split("/") if path else []
        if len(path) > PATH_LIMIT or not all(map(_is_plain, names)):
            raise NotInLibrary(path)
        try:
            parts = self._inside(self.root.joinpath(*names)).parts
        except (OSError, ValueError):
            raise NotInLibrary(path) from None
        return self._open_parts(parts, flags, path)

    def _inside(self, path: Path) -> Path:
        """Where `path` really is, relative to the root.

        :raises OSError: nowhere.
        :raises ValueError: outside.
        """
        try:
            return path.resolve(strict=True).relative_to(self.root)
        except RuntimeError as problem:  # pathlib's word for a loop of links
            raise OSError(str(problem)) from None

    def _open_parts(self, parts: tuple[str, ...], flags: int, path: str) -> int:
        # O_NONBLOCK: opening a FIFO must not wait for its other end.
        final = flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        step = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        here = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for number, name in enumerate(parts, 1):
                inner = os.open(name, final if number == len(parts) else step, dir_fd=here)
                os.close(here)
                here = inner
        except OSError:
            os.close(here)
            raise NotInLibrary(path) from None
        return here


def _entries(folder: str | Path) -> "list[os.DirEntry[str]]":
    """What is in a folder, by name."""
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def _is_plain(name: str) -> bool:
    """Whether a name of a path may be served: no `.`, `..`, hidden or unspeakable ones."""
    if not name or name.startswith(".") or "\0" in name or "/" in name:
        return False
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:  # a name on disk that is not UTF-8 has no address
        return False
    return True
