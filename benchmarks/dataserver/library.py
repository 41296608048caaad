"""Reading, indexing and searching Python's documentation: python -m benchmarks.dataserver.library

Alternating rounds in one process, CPU time, medians: our extraction beside the
standard library's parser with handlers that only collect text; our index
beside zope.index's own layout, over a FileStorage, in batches of one size.
Writes benchmarks/results/dataserver.json.
"""

import html.parser
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import transaction
import ZODB
from ZODB.FileStorage import FileStorage
from zope.index.text.lexicon import CaseNormalizer, Lexicon
from zope.index.text.okapiindex import OkapiIndex

from nti.appserver.dataserver.library.files import Library
from nti.appserver.dataserver.library.html import Extract, extract
from nti.appserver.dataserver.library.index import LibraryIndex
from nti.appserver.dataserver.library.indexing import BATCH_TEXT, read
from nti.appserver.dataserver.library.words import WordIndex, WordSplitter

LIBRARY = Path("/usr/share/doc/python3-doc/html")
ROUNDS = 5
QUERIES = (
    "generator",
    "class",
    "the",
    "os.path.join",
    '"list comprehension"',
    "asyncio event loop",
    "in*",
    "descriptor -file",
)


class Collector(html.parser.HTMLParser):
    """The peer: every text of a page, without choosing."""

    def __init__(self) -> None:
        super().__init__()
        self.text: list[str] = []

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def seconds(work: Callable[[], object]) -> float:
    """CPU of one call."""
    began = time.process_time()
    work()
    return time.process_time() - began


def extraction(pages: list[str]) -> dict[str, Any]:
    """Megabytes of HTML a second, and the median of the rounds' ratios."""

    def peer() -> None:
        for page in pages:
            Collector().feed(page)

    def ours() -> None:
        for page in pages:
            extract(page)

    rounds = [(seconds(ours), seconds(peer)) for _ in range(ROUNDS)]
    size = sum(map(len, pages)) / 1e6
    return {
        "megabytes": round(size, 1),
        "ours_mb_per_s": round(size / statistics.median(ours for ours, _ in rounds), 1),
        "html_parser_mb_per_s": round(size / statistics.median(peer for _, peer in rounds), 1),
        "cpu_ratio": round(statistics.median(ours / peer for ours, peer in rounds), 2),
    }


def layout(extracts: list[Extract], make: Callable[[], Any]) -> tuple[float, float, int]:
    """CPU of indexing all pages, of the longest commit, and the file's size in bytes."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "data.fs"
        database = ZODB.DB(FileStorage(str(file)))
        manager = transaction.TransactionManager(explicit=True)
        manager.begin()
        connection = database.open(manager)
        words = connection.root()["words"] = make()
        manager.commit()
        commits = []
        began = time.process_time()
        batch = 0
        manager.begin()
        for number, found in enumerate(extracts):
            words.index_doc(number, found.text)
            batch += len(found.text)
            if batch >= BATCH_TEXT or number == len(extracts) - 1:
                commits.append(seconds(manager.commit))
                batch = 0
                manager.begin()
        total = time.process_time() - began
        manager.abort()
        connection.close()
        database.close()
        return total, max(commits), file.stat().st_size


def layouts(extracts: list[Extract]) -> dict[str, Any]:
    """Our layout of zope.index's index beside its own."""

    def stock() -> OkapiIndex:
        return OkapiIndex(Lexicon(WordSplitter(), CaseNormalizer()))

    rounds = [(layout(extracts, WordIndex), layout(extracts, stock)) for _ in range(ROUNDS)]

    def ratio(part: int) -> float:
        return round(statistics.median(ours[part] / peer[part] for ours, peer in rounds), 2)

    return {
        "cpu_ratio": ratio(0),
        "longest_commit_ratio": ratio(1),
        "file_size_ratio": ratio(2),
        "longest_commit_ms": round(statistics.median(ours[1] for ours, _ in rounds) * 1000),
    }


def whole_run(library: Library) -> dict[str, Any]:
    """Reading and indexing everything into memory, and searching it with warm caches."""
    index = LibraryIndex()
    files = list(library.pages())

    def put_all() -> None:
        for file in files:
            reading = read(library, file, b"")
            assert reading is not None
            assert reading.extract is not None
            index.put(reading.file, reading.digest, reading.extract)

    taken = seconds(put_all)
    searches = {}
    for query in QUERIES:
        times = [seconds(lambda query=query: index.search(query)) for _ in range(30)]
        searches[query] = round(statistics.median(times) * 1000, 1)
    return {
        "pages": len(files),
        "words": index.word_count(),
        "pages_per_s": round(len(files) / taken),
        "search_ms": searches,
    }


def main() -> None:
    """Measure, print and write."""
    library = Library(LIBRARY)
    pages = [(LIBRARY / page.path).read_text("utf-8") for page in library.pages()]
    found = {
        "extraction": extraction(pages),
        "layout": layouts([extract(page) for page in pages]),
        "library": whole_run(library),
        "rounds": ROUNDS,
    }
    text = json.dumps(found, indent=2)
    print(text)
    results = Path(__file__).parents[1] / "results" / "dataserver.json"
    results.write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
