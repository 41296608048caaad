"""Extracting a page's words: a corpus of pages, another parser's opinion, hostile pages."""

import html.parser
import random
import re
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nti.appserver.dataserver.library.html import HEADING_LIMIT, Extract, extract

CORPUS = Path(__file__).parent / "corpus"


def described(found: Extract) -> str:
    """An extract as the files of the corpus write it."""
    lines = [f"title: {found.title}", f"text: {found.text}"]
    lines += [f"section: {s.start} {s.anchor} {s.heading}" for s in found.sections]
    lines += ["listing"] if found.listing else []
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("page", sorted(CORPUS.glob("*.html")), ids=lambda path: path.stem)
def test_the_corpus(page: Path) -> None:
    expected = page.with_suffix(".expected").read_text("utf-8")
    assert described(extract(page.read_text("utf-8"))) == expected


class Words(html.parser.HTMLParser):
    """The words of a well-formed page's body, as the standard library sees them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text: list[str] = []
        self.feed(page)
        self.close()

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def handle_starttag(self, tag: str, attrs: object = None) -> None:
        if tag in ("p", "li", "h2", "div"):
            self.text.append(" ")

    def handle_endtag(self, tag: str) -> None:
        self.handle_starttag(tag)


def well_formed(seed: int) -> str:
    """A page of nested blocks and inline markup; the same for the same seed."""
    chance = random.Random(seed)

    def inside(depth: int) -> str:
        parts = []
        for _ in range(chance.randint(1, 4)):
            name = chance.choice(["p", "li", "h2", "div", "b", "em", "code", "span", "a"])
            attribute = chance.choice(["", ' id="x"', " title='<p>'", ' data-a="a > b"', " hidden"])
            inner = inside(depth - 1) if depth else chance.choice(["word", "a&amp;b", "&lt;i&gt;"])
            parts.append(
                f"<{name}{attribute}>{inner}</{name}>" + chance.choice(["", " ", "tail\n"])
            )
        return "".join(parts)

    return f"<body>{inside(3)}</body>"


@pytest.mark.parametrize("seed", range(40))
def test_the_standard_librarys_parser_reads_the_same_words(seed: int) -> None:
    page = well_formed(seed)
    assert extract(page).text == " ".join("".join(Words(page).text).split())


@given(st.text(alphabet="<>!-/=\"' \nabpxhdivscript&;#1é\ud800", max_size=400))
def test_any_text_is_taken(page: str) -> None:
    found = extract(page)
    assert all(0 <= section.start <= len(found.text) for section in found.sections)
    assert [s.start for s in found.sections] == sorted(s.start for s in found.sections)


def test_a_section_starts_at_its_heading() -> None:
    page = "".join(
        f'<section id="s{n}"><h2>Part {n}</h2><p>words {n}</p></section>' for n in range(9)
    )
    found = extract(page)
    assert [s.anchor for s in found.sections] == [f"s{n}" for n in range(9)]
    for section in found.sections:
        assert found.text[section.start :].startswith(section.heading)


def test_a_heading_without_end_is_cut() -> None:
    title = extract("<h1>" + "long " * 1000 + "</h1>").title
    assert len(title) == HEADING_LIMIT


@pytest.mark.parametrize(
    "unit",
    [
        "<",
        "<a ",
        '<p "',
        "<p '\"",
        "<p \"'\"'",
        "<!--",
        "<script>",
        "<title ",
        "<h1>",
        "<main ",
        "&",
        '<p id="',
    ],
)
def test_the_time_grows_with_the_size(unit: str) -> None:
    """Twenty times the page takes about twenty times as long, and not four hundred times."""

    def seconds(size: int) -> float:
        page = unit * (size // len(unit))
        began = time.process_time()
        extract(page)
        return time.process_time() - began

    small = min(seconds(20_000) for _ in range(3))
    assert seconds(400_000) < 100 * small + 0.2


def test_scripts_and_styles_never_reach_the_text() -> None:
    page = "<p>kept</p><script>stolen()</script><STYLE>.stolen{}</STYLE><template>stolen</template>"
    assert not re.search("stolen", extract(page).text)
