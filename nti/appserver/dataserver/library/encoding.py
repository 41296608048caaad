"""The characters of a page's bytes.

Pure functions live here. A page says its encoding by a byte order mark, by a
`meta` element or by an XML declaration near its beginning; one that says
nothing is UTF-8. What cannot be decoded becomes U+FFFD, and nothing is raised.
"""

import codecs
import re

#: Bytes at a page's beginning in which it may name its encoding (HTML, section 4.2.5.4).
DECLARED_WITHIN = 1024

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)

_DECLARATION = re.compile(
    rb"""<meta\s[^>]*?\bcharset\s*=\s*["']?\s*(?P<meta>[\w.:-]+)"""
    rb"""|<\?xml\s[^>]*?\bencoding\s*=\s*["'](?P<xml>[\w.:-]+)""",
    re.IGNORECASE,
)

#: Python also has encodings that are no web page's, some of them slow.
_FAMILIES = ("iso8859", "cp125", "cp932", "koi8", "euc_", "gb", "big5", "shift_jis", "utf-8")


def decode(content: bytes) -> str:
    """The text of a page."""
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return content[len(mark) :].decode(encoding, "replace")
    return content.decode(_declared(content), "replace")


def _declared(content: bytes) -> str:
    found = _DECLARATION.search(content, 0, DECLARED_WITHIN)
    if not found:
        return "utf-8"
    try:
        name = codecs.lookup((found["meta"] or found["xml"]).decode("ascii")).name
    except (LookupError, UnicodeDecodeError):
        return "utf-8"
    if name in ("iso8859-1", "ascii"):
        return "cp1252"  # which is what browsers take these for
    return name if name.startswith(_FAMILIES) else "utf-8"
