"""Snippets: the passage of a page that best shows why it was found.

Pure functions on plain text. A snippet is a sequence of pieces, each with
whether it is a hit: who shows them puts the marks around them, so no markup
ever travels inside of the text.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

#: Characters that a snippet has, about, and matches that are looked at to choose it.
LENGTH = 240
MATCHES_LIMIT = 2000
#: Characters at each side of the passage in which its cut moves to the next space.
MARGIN = 24


class Piece(NamedTuple):
    """A part of a snippet; `hit` where it is one of the words looked for."""

    text: str
    hit: bool


class Snippet(NamedTuple):
    """Where the passage starts in the text, in characters, and its pieces."""

    start: int
    pieces: tuple[Piece, ...]


def pattern_of(terms: Sequence[tuple[str, ...]]) -> re.Pattern[str]:
    """What matches any of the terms in lower-case text as the index does: whole words."""
    alternatives = sorted(map(_alternative, terms), key=len, reverse=True)
    return re.compile("|".join(alternatives))


def _alternative(words: tuple[str, ...]) -> str:
    # The first word comes before the check that nothing precedes it: a pattern that
    # begins with letters is searched for several times as fast as one with \b.
    first, *others = (_word(word) for word in words)
    letters = re.escape(words[0].removesuffix("*"))
    return r"\W+".join([first.replace(letters, rf"{letters}(?<!\w{letters})", 1), *others])


def _word(word: str) -> str:
    return re.escape(word.removesuffix("*")) + (r"\w*" if word.endswith("*") else r"\b")


def snippet(text: str, pattern: re.Pattern[str], length: int = LENGTH) -> Snippet:
    """The passage of about `length` characters with the most different hits, then the most hits.

    The beginning of the text when nothing matches: the title may have been
    what was found.
    """
    spans = []
    lower = text.lower()
    if len(lower) != len(text):  # a few letters have a longer lower case; then only theirs match
        lower = text
    for match in pattern.finditer(lower):
        spans.append((match.start(), match.end(), match[0]))
        if len(spans) == MATCHES_LIMIT:
            break
    if not spans:
        return Snippet(0, _pieces(text, *_cut(text, 0, length), []))
    first, last = _densest(spans, length)
    middle = (spans[first][0] + spans[last][1]) // 2
    start, end = _cut(text, max(0, middle - length // 2), length)
    return Snippet(spans[first][0], _pieces(text, start, end, spans))


def _densest(spans: Sequence[tuple[int, int, str]], length: int) -> tuple[int, int]:
    """The first and last of the matches that fit into `length` and are worth the most."""
    best, chosen = (0, 0), (0, 0)
    counts: dict[str, int] = {}
    first = 0
    for last, (_, end, word) in enumerate(spans):
        counts[word] = counts.get(word, 0) + 1
        while end - spans[first][0] > length and first < last:
            gone = spans[first][2]
            counts[gone] -= 1
            if not counts[gone]:
                del counts[gone]
            first += 1
        worth = (len(counts), last - first)
        if worth > best:
            best, chosen = worth, (first, last)
    return chosen


def _cut(text: str, start: int, length: int) -> tuple[int, int]:
    """From `start` for `length`, moved inwards to spaces that are near."""
    end = min(len(text), start + length)
    if start:
        space = text.find(" ", start, start + MARGIN)
        start = space + 1 if space >= 0 else start
    if end < len(text):
        space = text.rfind(" ", end - MARGIN, end)
        end = space if space > start else end
    return start, end


def _pieces(
    text: str, start: int, end: int, spans: Sequence[tuple[int, int, str]]
) -> tuple[Piece, ...]:
    pieces = [Piece("… ", False)] if start else []
    position = start
    for hit_start, hit_end, _ in spans:
        if hit_start < position or hit_end > end:
            continue
        pieces += [Piece(text[position:hit_start], False), Piece(text[hit_start:hit_end], True)]
        position = hit_end
    pieces += [Piece(text[position:end], False)]
    if end < len(text):
        pieces.append(Piece(" …", False))
    return tuple(piece for piece in pieces if piece.text)
