"""Indexing: what is read, what is kept, going on after a kill, and what searching finds."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nti.appserver.dataserver.library import indexing
from nti.appserver.dataserver.library.catalogue import progress
from nti.appserver.dataserver.library.files import Library, NotInLibrary, OpenFile
from nti.appserver.dataserver.library.index import Hits
from nti.appserver.dataserver.library.indexing import Summary
from nti.appserver.dataserver.site import get_site
from nti.appserver.transactions import run

Index = Callable[..., Summary]


def search(text: str, unit: str = "", **options: int) -> Hits:
    return run(lambda: get_site().index.search(text, unit, **options))


def paths(text: str, unit: str = "") -> list[str]:
    return [hit.path for hit in search(text, unit).items]


def counts(summary: Summary) -> tuple[int, int, int]:
    return summary.total, summary.indexed, summary.removed


def test_all_pages_and_then_none(index: Index) -> None:
    assert counts(index()) == (5, 5, 0)
    assert counts(index()) == (5, 0, 0)


def test_what_changed_what_is_new_what_has_gone(index: Index, library: Path) -> None:
    index()
    (library / "cats" / "lions.html").write_text("<h1>Lions</h1><p>Now with tigers.</p>")
    (library / "cats" / "new.html").write_text("<p>An ocelot.</p>")
    (library / "dogs" / "terriers.html").unlink()
    assert counts(index()) == (5, 2, 1)
    assert paths("tigers") == ["cats/lions.html"]
    assert paths("zebras") == []
    assert paths("ocelot") == ["cats/new.html"]
    assert paths("digs") == []


def test_a_file_that_was_only_touched_is_not_taken_apart(
    index: Index, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index()
    os.utime(library / "index.html", (1, 1))
    monkeypatch.setattr(indexing, "extract", None)
    assert counts(index()) == (5, 0, 0)
    monkeypatch.setattr(indexing, "read", None)
    assert counts(index()) == (5, 0, 0)


def test_a_change_that_keeps_the_size_is_seen_by_its_time(index: Index, library: Path) -> None:
    index()
    page = library / "cats" / "small" / "tabby.html"
    page.write_text(page.read_text().replace("striped", "spotted"))
    os.utime(page, (5, 5))
    assert counts(index()) == (5, 1, 0)
    assert paths("spotted") == ["cats/small/tabby.html"]


class Killed(BaseException):
    """Ends a run as SIGKILL would: nothing of it goes on."""


def test_a_run_that_was_killed_goes_on_where_it_was(index: Index) -> None:
    """Each batch that was committed stays; a page is in no batch twice."""
    pauses = 0

    def pause() -> None:
        nonlocal pauses
        pauses += 1
        if pauses == 5:  # a page has two pauses, and this is the one before the third commit
            raise Killed

    with pytest.raises(Killed):
        index(pause=pause, batch_text=1)
    assert run(lambda: len(get_site().index)) == 2
    assert counts(index()) == (5, 3, 0)
    assert len(paths("a")) == 4


def test_another_version_of_the_program_indexes_all_again(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    index()
    monkeypatch.setattr(indexing, "VERSION", 2)
    monkeypatch.setattr("nti.appserver.dataserver.library.index.VERSION", 2)
    assert counts(index()) == (5, 5, 0)
    assert counts(index()) == (5, 0, 0)


def test_progress_is_reported(index: Index) -> None:
    seen: list[tuple[int, int]] = []
    index(report=lambda done, total: seen.append((done, total)))
    assert seen == [(number, 5) for number in range(6)]


def test_hits_are_ranked_and_scored(index: Index) -> None:
    index()
    assert paths("cat")[0] == "cats/index.html"
    scores = [hit.score for hit in search("cat").items]
    assert scores == sorted(scores, reverse=True)
    assert paths("lion*")[0] == "cats/lions.html"
    assert paths('"live in prides"') == ["cats/lions.html"]
    assert paths("cat -lion") == ["cats/index.html", "cats/small/tabby.html"]


def test_a_unit_has_its_nested_units_and_no_others(index: Index, library: Path) -> None:
    (library / "cats2").mkdir()
    (library / "cats2" / "page.html").write_text("<p>cat</p>")
    index()
    assert set(paths("cat", "cats")) == {
        "cats/index.html",
        "cats/lions.html",
        "cats/small/tabby.html",
    }
    assert paths("cat", "cats/small") == ["cats/small/tabby.html"]
    assert paths("cat", "dogs") == []


def test_a_hit_leads_to_the_section_and_shows_the_words(index: Index) -> None:
    index()
    [hit] = search("zebras").items
    assert (hit.title, hit.anchor, hit.heading) == ("Lions", "prides", "Prides")
    assert "".join(piece.text for piece in hit.snippet).endswith("hunt <zebras>.")
    assert [piece.text for piece in hit.snippet if piece.hit] == ["zebras"]


def test_lists_of_links_come_last(index: Index, library: Path) -> None:
    links = "".join(f"<li><a href='{n}'>ocelot</a></li>" for n in range(30))
    (library / "list.html").write_text(f"<ul>{links}</ul>")
    (library / "about.html").write_text(f"<p>One ocelot. {'Words and words. ' * 50}</p>")
    index()
    assert paths("ocelot") == ["about.html", "list.html"]


def test_part_of_the_hits(index: Index) -> None:
    index()
    everything = [hit.path for hit in search("a").items]
    part = search("a", start=1, count=2)
    assert [hit.path for hit in part.items] == everything[1:3]
    assert part.total == len(everything)
    assert search("a", start=50).items == []


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_pages_that_are_not_utf_8_are_taken_as_they_are(
    index: Index, library: Path, encoding: str
) -> None:
    (library / "other.html").write_bytes("<p>caf\u00e9 ocelot</p>".encode(encoding))
    assert counts(index()) == (6, 6, 0)


def test_a_page_may_say_its_encoding(index: Index, library: Path) -> None:
    page = '<meta charset="windows-1252"><p>caf\u00e9</p>'
    (library / "other.html").write_bytes(page.encode("cp1252"))
    index()
    assert paths("caf\u00e9") == ["other.html"]


def test_a_page_that_cannot_be_read_is_counted_out(
    index: Index, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Else the index would never be said to be whole."""
    opened = Library.open

    def locked(library: Library, path: str) -> OpenFile:
        if path == "cats/lions.html":
            raise NotInLibrary(path)
        return opened(library, path)

    monkeypatch.setattr(Library, "open", locked)
    summary = index()
    assert counts(summary) == (5, 4, 0)
    assert summary.unread == 1
    assert "cats/lions.html cannot be read" in caplog.text
    assert run(progress) == {"indexed": 4, "pages": 4}
    monkeypatch.undo()
    assert counts(index()) == (5, 1, 0)
    assert run(progress) == {"indexed": 5, "pages": 5}


def test_the_listing_says_what_the_index_has(index: Index, app: Any) -> None:
    assert app.get("/library").json["index"] == {"indexed": 0, "pages": 0}
    index()
    assert app.get("/library").json["index"] == {"indexed": 5, "pages": 5}
