"""The index: what the database knows of the pages, and searching it.

Persistent classes live here, so a name in this file is also written into
databases. Everything runs inside of a unit of work; reading an object from
the database may switch greenlets, between two units of work of other greenlets.
"""

import re
import zlib
from bisect import bisect_right
from collections.abc import Iterator
from heapq import nlargest
from itertools import islice
from typing import NamedTuple

from BTrees.IIBTree import IITreeSet
from BTrees.IOBTree import IOBTree
from BTrees.Length import Length
from BTrees.OOBTree import OOBTree
from persistent import Persistent

from nti.appserver.dataserver.library.files import PageFile, unit_of
from nti.appserver.dataserver.library.html import Extract, Section
from nti.appserver.dataserver.library.snippets import Piece, pattern_of, snippet
from nti.appserver.dataserver.library.words import WordIndex, parse

#: How often the title's words count for those of the text.
TITLE_WEIGHT = 4
#: What the score of a page that is little more than links is multiplied by.
LISTING_WEIGHT = 0.2
#: A change to this number makes the next run index every page again.
VERSION = 1


class PageText(Persistent):
    """The text of a page, apart from what lists of pages need: it is large."""

    def __init__(self, extract: Extract) -> None:
        self._compressed = zlib.compress(extract.text.encode("utf-8", "replace"))
        self._sections = tuple((s.start, s.anchor, s.heading) for s in extract.sections)

    @property
    def text(self) -> str:
        return zlib.decompress(self._compressed).decode("utf-8")

    def section_at(self, position: int) -> Section | None:
        """The section that the character at `position` belongs to."""
        number = bisect_right(self._sections, position, key=lambda section: section[0])
        return Section(*self._sections[number - 1]) if number else None


class Page(Persistent):
    """What is known of an indexed page.

    :ivar modified: of the file that was indexed, nanoseconds since 1970.
    :ivar size: of that file, bytes.
    :ivar digest: of that file's bytes.
    """

    def __init__(self, path: str, docid: int) -> None:
        self.path = path
        self.docid = docid
        self.title = ""
        self.modified = 0
        self.size = 0
        self.digest = b""
        self.body: PageText | None = None

    def is_like(self, file: PageFile) -> bool:
        """Whether the file looks as it did when it was indexed."""
        return self.modified == file.modified and self.size == file.size


class Hit(NamedTuple):
    """One page that was found.

    :param score: greater is better; only to be compared within one search.
    :param anchor: the fragment that leads to the passage, or ''.
    :param heading: the section that the passage is in, or ''.
    """

    path: str
    title: str
    score: float
    anchor: str
    heading: str
    snippet: tuple[Piece, ...]


class Hits(NamedTuple):
    """One screenful of a search's result, and how many hits there are in all."""

    query: str
    total: int
    items: list[Hit]


class LibraryIndex(Persistent):
    """All indexed pages, by path and by word."""

    def __init__(self) -> None:
        self.version = VERSION
        self._pages = OOBTree()  # path -> Page
        self._paths = IOBTree()  # docid -> path
        self._units = OOBTree()  # unit -> docids
        self._listings = IITreeSet()  # docids
        self._words = WordIndex()
        self._next_docid = Length(1)
        #: How many pages the library had when the last run began.
        self.expected = 0

    def __len__(self) -> int:
        return int(self._words.documentCount())

    def __contains__(self, path: str) -> bool:
        return path in self._pages

    def get(self, path: str) -> Page | None:
        page: Page | None = self._pages.get(path)
        return page

    def paths(self) -> Iterator[str]:
        """The path of every indexed page, ascending."""
        return iter(self._pages.keys())

    def word_count(self) -> int:
        """How many different words the pages have."""
        return int(self._words.wordCount())

    # -- changing

    def put(self, file: PageFile, digest: bytes, extract: Extract) -> None:
        """Index a page, new or changed."""
        page = self._pages.get(file.path) or self._add(file.path)
        page.modified, page.size, page.digest = file.modified, file.size, digest
        page.title = extract.title or file.path.rpartition("/")[2]
        page.body = PageText(extract)
        weighted = f"{page.title} " * TITLE_WEIGHT + extract.text
        self._words.index_doc(page.docid, weighted)
        if extract.listing:
            self._listings.insert(page.docid)
        elif page.docid in self._listings:
            self._listings.remove(page.docid)

    def _add(self, path: str) -> Page:
        docid = self._next_docid()
        self._next_docid.change(1)
        page = self._pages[path] = Page(path, docid)
        self._paths[docid] = path
        unit = unit_of(path)
        if unit not in self._units:
            self._units[unit] = IITreeSet()
        self._units[unit].insert(docid)
        return page

    def remove(self, path: str) -> None:
        """Forget a page.

        :raises KeyError: it is not indexed.
        """
        page = self._pages.pop(path)
        del self._paths[page.docid]
        unit = unit_of(path)
        self._units[unit].remove(page.docid)
        if not self._units[unit]:
            del self._units[unit]
        self._words.unindex_doc(page.docid)
        if page.docid in self._listings:
            self._listings.remove(page.docid)

    # -- searching

    def search(self, text: str, unit: str = "", *, start: int = 0, count: int = 20) -> Hits:
        """The best pages of a unit and of those nested in it; '' is the whole library.

        :param start: how many better hits to pass over, >= 0.
        :param count: how many to return at most, > 0.
        :raises BadQuery: the query cannot be searched for.
        """
        query = parse(text, self._words.lexicon)
        found = query.tree.executeQuery(self._words) or {}  # type: ignore[attr-defined]
        scores = self._ranked(found, unit)
        best = nlargest(start + count, scores, key=lambda pair: (pair[1], -pair[0]))
        pattern = pattern_of(query.terms)
        hits = [self._hit(docid, score, pattern) for docid, score in islice(best, start, None)]
        return Hits(query.text, len(scores), hits)

    def _ranked(self, found: "dict[int, float]", unit: str) -> list[tuple[int, float]]:
        listings = self._listings
        scores = [
            (docid, score * LISTING_WEIGHT if docid in listings else score)
            for docid, score in found.items()
        ]
        if not unit:
            return scores
        members = [self._units[name] for name in self._unit_names(unit)]
        return [pair for pair in scores if any(pair[0] in docids for docids in members)]

    def _unit_names(self, unit: str) -> Iterator[str]:
        if unit in self._units:
            yield unit
        yield from self._units.keys(unit + "/", unit + "0", excludemax=True)  # "0" follows "/"

    def _hit(self, docid: int, score: float, pattern: re.Pattern[str]) -> Hit:
        page = self._pages[self._paths[docid]]
        passage = snippet(page.body.text, pattern)
        section = page.body.section_at(passage.start)
        return Hit(
            page.path,
            page.title,
            round(score, 4),
            section.anchor if section else "",
            section.heading if section else "",
            passage.pieces,
        )
