"""Snippets: where they are cut, what is marked, and what they never lose or invent."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nti.appserver.dataserver.library.snippets import LENGTH, pattern_of, snippet

FILLER = "lorem ipsum dolor sit amet " * 40


def joined(found: object) -> str:
    return "".join(piece.text for piece in found.pieces)  # type: ignore[attr-defined]


def marked(found: object) -> list[str]:
    return [piece.text for piece in found.pieces if piece.hit]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("term", "text", "hits"),
    [
        (("cat",), "A cat, Cat concatenates CAT_ cat", ["cat", "Cat", "cat"]),
        (("cat*",), "Cats and concatenation: category", ["Cats", "category"]),
        (("os", "path"), "use os.path, not pos.path or os pathname", ["os.path"]),
        (("new", "line"), "a new\u2014line", ["new\u2014line"]),
        (("é",), "É é", ["É", "é"]),
        (("c",), "c++ and c", ["c", "c"]),
    ],
)
def test_whole_words_are_marked(term: tuple[str, ...], text: str, hits: list[str]) -> None:
    found = snippet(text, pattern_of([term]))
    assert marked(found) == hits
    assert joined(found) == text


def test_the_passage_with_the_most_different_words_wins() -> None:
    text = f"{FILLER} cat cat cat {FILLER} a cat and a dog {FILLER}"
    found = snippet(text, pattern_of([("cat",), ("dog",)]))
    assert marked(found) == ["cat", "dog"]
    assert joined(found).startswith("… ")
    assert joined(found).endswith(" …")
    assert text.index("a cat and") <= found.start < text.index("dog")


def test_without_a_match_the_beginning_is_shown() -> None:
    found = snippet(FILLER, pattern_of([("cat",)]))
    assert found.start == 0
    assert marked(found) == []
    assert joined(found).startswith("lorem ipsum")


def test_a_letter_whose_lower_case_is_longer_does_not_shift_the_marks() -> None:
    assert marked(snippet("İİİ cat", pattern_of([("cat",)]))) == ["cat"]


@given(st.text(alphabet="cat dog.\n<é", max_size=900), st.integers(20, 300))
def test_a_snippet_is_a_passage_of_the_text(text: str, length: int) -> None:
    found = snippet(text, pattern_of([("cat",), ("do", "dog"), ("d*",)]), length)
    passage = joined(found).removeprefix("… ").removesuffix(" …")
    assert passage in text
    assert len(passage) <= length + LENGTH
