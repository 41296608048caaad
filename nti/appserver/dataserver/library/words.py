"""Words: how the text of a page and a reader's query become the terms that are compared.

Pure functions, and persistent classes, whose names are also written into
databases. The query language is zope.index's: words, "phrases",
AND, OR, NOT, -word, parentheses, and word* for all words that begin so.
"""

import re
from dataclasses import dataclass

from BTrees.IOBTree import IOBTree
from BTrees.OIBTree import OIBTree
from zope.index.text.lexicon import CaseNormalizer, Lexicon, Splitter
from zope.index.text.okapiindex import OkapiIndex
from zope.index.text.parsetree import GlobNode, NotNode, ParseError, PhraseNode, QueryError
from zope.index.text.queryparser import QueryParser

#: Characters of a query, and what each part of it may number.
QUERY_LIMIT = 200
PARENTHESES_LIMIT = 10
PREFIX_LIMIT = 3
#: Letters that a word* must have at least: each makes all words that begin so count.
PREFIX_LETTERS = 2


class BadQuery(ValueError):
    """The query cannot be searched for; the message tells the reader why."""


class WordSplitter(Splitter):
    """Words as letters, digits and underscores; a star counts at a word's end alone.

    zope.index takes stars and question marks anywhere, as a shell does; matched
    against every word of the lexicon, a few of them take time without bound.
    """

    rxGlob = re.compile(r"\w+\*?")


class WideIOBTree(IOBTree):
    """An IOBTree of fewer, larger records, for values that most commits touch all over.

    Indexing a batch of pages changes words everywhere in the alphabet. With
    records of the usual size that is thousands of objects in a commit; what a
    commit costs is nearly all for their number, not for their bytes.
    """

    max_leaf_size = 400
    max_internal_size = 500


class WideOIBTree(OIBTree):
    """As WideIOBTree."""

    max_leaf_size = 600
    max_internal_size = 500


class WideLexicon(Lexicon):
    """A lexicon without stop words: in a manual `for` and `is` mean something."""

    def __init__(self) -> None:
        super().__init__(WordSplitter(), CaseNormalizer())
        self._wids = WideOIBTree()
        self._words = WideIOBTree()


class WordIndex(OkapiIndex):
    """zope.index's Okapi BM25 index, laid out for commits of many words."""

    #: A word in fewer pages than this is kept in its neighbours' record, not in a tree of its own.
    DICT_CUTOFF = 100

    def __init__(self) -> None:
        super().__init__(WideLexicon())

    def clear(self) -> None:
        super().clear()
        self._wordinfo = WideIOBTree()


@dataclass(frozen=True, slots=True)
class Query:
    """A query that may be run.

    :param tree: zope.index's parse tree.
    :param terms: what to highlight: each a word, a phrase as its words, or a
        word* with its star; without those the query rules out.
    """

    text: str
    tree: object
    terms: tuple[tuple[str, ...], ...]


def parse(text: str, lexicon: Lexicon) -> Query:
    """Understand a query.

    :raises BadQuery: it is empty, too long, out of bounds or misspelt.
    """
    text = " ".join(text.split())
    _check_bounds(text)
    try:
        tree = QueryParser(lexicon).parseQuery(text)
    except (ParseError, QueryError) as problem:
        raise BadQuery(_in_words(text, problem)) from None
    return Query(text, tree, tuple(dict.fromkeys(_terms(tree))))


def _check_bounds(text: str) -> None:
    if not text:
        raise BadQuery("The query is empty; give at least one word.")
    if len(text) > QUERY_LIMIT:
        raise BadQuery(f"The query has {len(text)} characters; at most {QUERY_LIMIT} are searched.")
    if text.count("(") > PARENTHESES_LIMIT:
        raise BadQuery(f"The query has more than {PARENTHESES_LIMIT} pairs of parentheses.")
    prefixes = re.findall(r"(\w+)\*", text)
    if len(prefixes) > PREFIX_LIMIT:
        raise BadQuery(f"The query has more than {PREFIX_LIMIT} words with a star.")
    for prefix in prefixes:
        if len(prefix) < PREFIX_LETTERS:
            raise BadQuery(
                f"{prefix}* is too short: a star needs {PREFIX_LETTERS} letters before it."
            )


def _in_words(text: str, problem: Exception) -> str:
    if "only common words" in str(problem):
        return f"There is no word to search for in {text!r}."
    if "positive word" in str(problem):
        return "The query only rules words out; give at least one to look for."
    return f"The query {text!r} is not well formed; look at its parentheses, AND, OR and NOT."


def _terms(node: object) -> list[tuple[str, ...]]:
    """The words and phrases that a hit contains, in the order of the query."""
    if isinstance(node, NotNode):
        return []
    value = node.getValue()  # type: ignore[attr-defined]
    if isinstance(node, PhraseNode):
        return [tuple(value)]
    if isinstance(node, GlobNode) or isinstance(value, str):
        return [(value,)]
    return [term for inner in value for term in _terms(inner)]
