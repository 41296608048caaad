"""Bringing the index up to date with the files, batch by batch.

Runs in the background of a worker, in a greenlet, or in `nti-appserver index`,
in a process that is never patched. Files are read and taken apart outside of
units of work; each batch is then one unit of work. So a run that is killed
loses one batch, the next run goes on from there, and a batch that conflicts
is written again without reading its files again.
"""

import hashlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from nti.appserver.dataserver.library.encoding import decode
from nti.appserver.dataserver.library.files import Library, NotInLibrary, PageFile
from nti.appserver.dataserver.library.html import Extract, extract
from nti.appserver.dataserver.library.index import VERSION, LibraryIndex
from nti.appserver.dataserver.site import get_site
from nti.appserver.transactions import run

#: Bytes of a page that are read; what follows is not found by searching.
PAGE_LIMIT = 16 * 1024 * 1024

#: Characters of text in a batch. A commit writes most of the lexicon again whatever the
#: batch's size: larger ones are faster and leave a smaller database, smaller ones lose less.
BATCH_TEXT = 2_000_000
#: Seconds after which a batch is committed however small it is.
BATCH_SECONDS = 5.0

logger = logging.getLogger("nti.appserver.dataserver")


@dataclass(frozen=True, slots=True)
class Reading:
    """A file that was read, and its words; no words: it is as it was indexed."""

    file: PageFile
    digest: bytes
    extract: Extract | None


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run has to do.

    :param changed: pages that look new or different, each with the digest that
        is known of it, or b"".
    :param removed: paths that are indexed and no longer there.
    :param total: how many pages the library has.
    """

    changed: list[tuple[PageFile, bytes]]
    removed: list[str]
    total: int


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run has done; `indexed` counts new and changed pages.

    :param unread: pages that are listed and could not be read.
    """

    total: int
    indexed: int
    removed: int
    unread: int
    words: int
    seconds: float


class IndexRun:
    """One run over a library.

    :param library: the files.
    :param report: called with the pages done and the pages to do, after each
        page and at the start.
    :param pause: called between pages, inside of units of work too: where a
        greenlet lets others run.
    :param batch_text: characters of text in a batch.
    """

    def __init__(
        self,
        library: Library,
        *,
        report: Callable[[int, int], None] = lambda done, total: None,
        pause: Callable[[], None] = lambda: None,
        batch_text: int = BATCH_TEXT,
    ) -> None:
        self.library = library
        self.report = report
        self.pause = pause
        self.batch_text = batch_text

    def __call__(self) -> Summary:
        """Index what is new or changed, forget what has gone; the index is then as the files are.

        What a unit of work raises comes through; batches before it stay.
        """
        began = time.monotonic()
        self._unread = 0
        plan = run(make_plan, list(self.library.pages()))
        if plan.removed:
            run(_remove, plan.removed)
        self.report(0, len(plan.changed))
        indexed = 0
        for batch in self._batches(plan.changed):
            run(self._write, batch)
            indexed += sum(reading.extract is not None for reading in batch)
        words = run(_finish)
        seconds = time.monotonic() - began
        return Summary(plan.total, indexed, len(plan.removed), self._unread, words, seconds)

    def _batches(self, changed: list[tuple[PageFile, bytes]]) -> Iterator[list[Reading]]:
        batch: list[Reading] = []
        text, began = 0, time.monotonic()
        for number, (file, known) in enumerate(changed, 1):
            reading = read(self.library, file, known)
            if reading is None:
                self._unread += 1
                logger.warning("the page %s cannot be read, or has just gone", file.path)
            else:
                batch.append(reading)
                text += len(reading.extract.text) if reading.extract else 0
            if text >= self.batch_text or time.monotonic() - began >= BATCH_SECONDS:
                yield batch
                batch, text, began = [], 0, time.monotonic()
            self.report(number, len(changed))
            self.pause()
        if batch:
            yield batch

    def _write(self, batch: list[Reading]) -> None:
        """Unit of work: put a batch into the index."""
        index = _index()
        for reading in batch:
            if reading.extract is not None:
                index.put(reading.file, reading.digest, reading.extract)
            elif page := index.get(reading.file.path):
                page.modified, page.size = reading.file.modified, reading.file.size
            self.pause()


def make_plan(files: Iterable[PageFile]) -> Plan:
    """Unit of work: compare the files with the index by their time and size."""
    index = _index()
    changed = []
    seen = set()
    for file in files:
        seen.add(file.path)
        page = index.get(file.path)
        if page is None or not page.is_like(file):
            changed.append((file, page.digest if page else b""))
    removed = [path for path in index.paths() if path not in seen]
    if index.expected != len(seen):
        index.expected = len(seen)
    return Plan(changed, removed, len(seen))


def _index() -> LibraryIndex:
    """The site's index, begun anew when another version of this program made it."""
    site = get_site(create=True)
    if site.index.version != VERSION:
        site.index = LibraryIndex()
    return site.index


def read(library: Library, file: PageFile, known: bytes) -> Reading | None:
    """A file's words; None when it cannot be read, or has gone since it was listed.

    :param known: the digest of what is indexed: an equal file is not taken apart.
    """
    try:
        opened = library.open(file.path)
    except NotInLibrary:
        return None
    with opened.file:
        content = opened.file.read(PAGE_LIMIT)
    # What was read counts, not what was listed: it may have changed in between.
    file = PageFile(file.path, opened.modified, opened.size)
    digest = hashlib.blake2b(content, digest_size=16).digest()
    if digest == known:
        return Reading(file, digest, None)
    return Reading(file, digest, extract(decode(content)))


def _finish() -> int:
    """Unit of work: nothing more is to come, whatever could not be read; the number of words."""
    index = _index()
    if index.expected != len(index):
        index.expected = len(index)
    return index.word_count()


def _remove(paths: list[str]) -> None:
    """Unit of work: forget pages."""
    index = _index()
    for path in paths:
        index.remove(path)
