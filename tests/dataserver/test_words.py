"""What may be searched for, and what is told of what may not."""

import pytest

from nti.appserver.dataserver.library.words import QUERY_LIMIT, BadQuery, WideLexicon, parse


@pytest.fixture
def lexicon():  # type: ignore[no-untyped-def]
    lexicon = WideLexicon()
    lexicon.sourceToWordIds("the margin is too small for this Margins os path join")
    return lexicon


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("margin", (("margin",),)),
        ("  Too   SMALL ", (("too",), ("small",))),
        ('"too small" margin', (("too", "small"), ("margin",))),
        ("os.path.join", (("os", "path", "join"),)),
        ("margin*", (("margin*",),)),
        ("margin -small", (("margin",),)),
        ("(margin OR path) AND NOT small", (("margin",), ("path",))),
        ("is for the", (("is",), ("for",), ("the",))),
    ],
)
def test_queries_that_are_understood(lexicon, text: str, terms: object) -> None:  # type: ignore[no-untyped-def]
    assert parse(text, lexicon).terms == terms


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "empty"),
        (" \t\n", "empty"),
        ("x" * (QUERY_LIMIT + 1), str(QUERY_LIMIT)),
        ("...", "no word"),
        ("-margin", "rules words out"),
        ("(margin", "not well formed"),
        ("margin AND", "not well formed"),
        ("OR", "not well formed"),
        ("m*", "too short"),
        ("aa* bb* cc* dd*", "star"),
        ("(" * 50 + "a" + ")" * 50, "parentheses"),
    ],
)
def test_queries_that_are_not(lexicon, text: str, told: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(BadQuery, match=told):
        parse(text, lexicon)


def test_stars_inside_of_words_do_not_become_patterns(lexicon) -> None:  # type: ignore[no-untyped-def]
    """A shell's pattern with many stars takes time without bound on long words."""
    assert parse("ma*aa*b", lexicon).terms == (("ma*", "aa*", "b"),)
