"""The words of an HTML page: its title, its text and where its sections begin.

Pure functions on text live here: no files, no database, no waiting, any
thread. What comes out is plain text: whoever shows it escapes it.

A full parser would spend most of its time on inline markup that means nothing
to a search. So one pattern finds only the tags that matter (blocks, headings,
what is skipped), and the inline tags between two of them are removed together.
Every search below begins where the last one ended or gives up for good, so the
time grows with the size of the page whatever its author wrote.
"""

import re
from dataclasses import dataclass
from html import unescape

#: Characters of a title or heading that are kept.
HEADING_LIMIT = 200

#: A page with fewer words than this to each link is a listing.
WORDS_PER_LINK = 4

# Bounded, or unbalanced quotes could make each tag of a page run to its end.
_ATTRIBUTES = r"""(?:[^<>"']++|"[^"]*+"|'[^']*+'){0,64}+"""

#: Elements whose content is not for reading, or is the same on every page.
_SKIPPED = "script|style|template|noscript|svg|nav|footer|form|select|button|iframe|object"
_HEADINGS = "h[1-6]|dt"
_BLOCKS = (
    "address|article|aside|blockquote|body|br|caption|dd|details|div|dl|fieldset|figcaption|"
    "figure|header|hr|legend|li|main|ol|p|pre|section|summary|table|tbody|td|tfoot|th|thead|tr|ul"
)
_MATTERS = rf"(?:!--|/?(?:{_SKIPPED}|{_HEADINGS}|{_BLOCKS})(?=[\s/>]))"

#: Words and inline tags up to a tag that matters, and that tag; or up to the end; or up to what
#: only begins like a tag, which are words again.
_STEP = re.compile(
    rf"(?P<words>(?:[^<]++|<(?!{_MATTERS})(?:[!/?a-z]{_ATTRIBUTES}>)?)*+)"
    rf"(?:\Z|<(?:(?P<comment>!--)"
    rf"|(?P<close>/?)(?P<name>{_SKIPPED}|{_HEADINGS}|{_BLOCKS})(?=[\s/>])"
    rf"(?P<attributes>{_ATTRIBUTES})>)|(?P<stray><))",
    re.IGNORECASE,
)
_INLINE = re.compile(rf"<[!/?a-zA-Z]{_ATTRIBUTES}>")
_ID = re.compile(r"""\bid\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'>]+))""", re.IGNORECASE)
_TITLE = re.compile(r"<title(?=[\s>])[^<>]*>([^<]*)", re.IGNORECASE)
_MAIN = re.compile(
    rf"""<(?:(?P<main>main)(?=[\s>])|(?P<name>[a-z]+)\s(?=[^<>]*?\brole\s*=\s*["']?main\b))"""
    rf"{_ATTRIBUTES}>",
    re.IGNORECASE,
)
_TITLE_END = re.compile(r"</title\s*>", re.IGNORECASE)
_BODY = re.compile(rf"<body(?=[\s>]){_ATTRIBUTES}>", re.IGNORECASE)
_SKIPPED_NAME = re.compile(_SKIPPED, re.IGNORECASE)
_HEADING_NAME = re.compile(_HEADINGS, re.IGNORECASE)
_SPACE = re.compile(r"\s+")


@dataclass(frozen=True, slots=True)
class Section:
    """A heading, or a term that is defined, that a link can lead to.

    :param start: where it begins in the text, in characters.
    :param anchor: the fragment of the link, without #.
    :param heading: its words.
    """

    start: int
    anchor: str
    heading: str


@dataclass(frozen=True, slots=True)
class Extract:
    """What a page says.

    :param title: the first heading, else the document's title; may be empty.
    :param text: the words with single spaces between them.
    :param sections: ascending by `start`.
    :param listing: whether it is little more than links, as an index or a
        table of contents is.
    """

    title: str
    text: str
    sections: tuple[Section, ...]
    listing: bool


def extract(page: str) -> Extract:
    """The words of `page`, which may be any text at all; nothing is raised."""
    start, end = _readable(page)
    reader = _Reader()
    reader.read(page, start, end)
    text = reader.text()
    links = page.count("<a ", start, end) - page.count("headerlink", start, end)
    return Extract(
        title=reader.title or _document_title(page),
        text=text,
        sections=tuple(reader.sections),
        listing=links > 0 and text.count(" ") + 1 < links * WORDS_PER_LINK,
    )


def _document_title(page: str) -> str:
    match = _TITLE.search(page)
    return " ".join(_plain(match[1]).split())[:HEADING_LIMIT] if match else ""


def _readable(page: str) -> tuple[int, int]:
    """Where the page's own words are: its main element, its body, or what follows its title."""
    main = _MAIN.search(page)
    if main:
        return main.end(), _end_of(page, main["main"] or main["name"], main.end())
    start = _BODY.search(page) or _TITLE_END.search(page)
    return (start.end() if start else 0), len(page)


def _end_of(page: str, name: str, position: int) -> int:
    """Where the element `name` that is open at `position` is closed; the end if it never is."""
    depth = 1
    for tag in re.compile(rf"<(/?){name}(?=[\s/>])", re.IGNORECASE).finditer(page, position):
        depth += -1 if tag[1] else 1
        if not depth:
            return tag.start()
    return len(page)


def _plain(markup: str) -> str:
    """`markup` without inline tags and references, the spaces as they were."""
    if "<" in markup:
        markup = _INLINE.sub("", markup)
    if "&" in markup:
        markup = unescape(markup)
    return markup


class _Reader:
    """One pass over a page; the words collected so far and the heading that is open."""

    def __init__(self) -> None:
        self.title = ""
        self.sections: list[Section] = []
        self._words: list[str] = []
        self._length = 0
        self._anchor = ""
        self._heading: tuple[str, int, int] | None = None

    def text(self) -> str:
        return " ".join(self._words)

    def read(self, page: str, position: int, end: int) -> None:
        while position < end:
            step = _STEP.match(page, position, end)
            assert step is not None  # it also matches nothing
            position = step.end()
            self._add(step["words"] + (step["stray"] or ""))
            if step["comment"]:
                close = page.find("-->", position, end)
                position = close + 3 if close >= 0 else end
            elif step["name"] and _SKIPPED_NAME.fullmatch(step["name"]):
                if not step["close"] and not step["attributes"].endswith("/"):
                    position = min(_end_of(page, step["name"], position), end)
            elif step["name"]:
                self._note_tag(step["name"].lower(), bool(step["close"]), step["attributes"])

    def _add(self, markup: str) -> None:
        words = _SPACE.sub(" ", _plain(markup).replace("¶", " ")).strip()
        if words:
            self._words.append(words)
            self._length += len(words) + 1

    def _note_tag(self, name: str, closes: bool, attributes: str) -> None:
        """Remember the nearest id, and where a heading begins and ends."""
        if closes:
            if self._heading and self._heading[0] == name:
                self._end_heading()
            return
        if attributes and (match := _ID.search(attributes)):
            self._anchor = unescape(match[1] or match[2] or match[3] or "")
        if _HEADING_NAME.fullmatch(name):
            self._heading = (name, len(self._words), self._length)

    def _end_heading(self) -> None:
        assert self._heading is not None
        name, first, start = self._heading
        self._heading = None
        heading = " ".join(self._words[first:])[:HEADING_LIMIT]
        if name == "h1" and not self.title:
            self.title = heading
        if heading and self._anchor:
            self.sections.append(Section(start, self._anchor, heading))
            self._anchor = ""
