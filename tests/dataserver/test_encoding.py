"""The encoding that a page names, and what is made of one that names none or nonsense."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nti.appserver.dataserver.library.encoding import decode


@pytest.mark.parametrize(
    ("declaration", "encoding"),
    [
        ("", "utf-8"),
        ('<meta charset="utf-8">', "utf-8"),
        ("<META CharSet=iso-8859-1>", "latin-1"),
        ('<html><head><meta name="x"><meta charset=windows-1252>', "cp1252"),
        ('<meta http-equiv="Content-Type" content="text/html; charset=iso-8859-15">', "iso8859-15"),
        ('<?xml version="1.0" encoding="ISO-8859-1"?>', "latin-1"),
        ('<meta charset="gb2312">', "gb2312"),
    ],
)
def test_a_page_says_its_encoding(declaration: str, encoding: str) -> None:
    page = declaration + "<p>d\u00e9j\u00e0 vu</p>"
    if encoding == "gb2312":
        page = declaration + "\u4f60\u597d"
    assert decode(page.encode(encoding)) == page


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_wins(encoding: str) -> None:
    page = '<meta charset="koi8-r"><p>caf\u00e9</p>'
    assert decode(page.encode(encoding)) == page


@pytest.mark.parametrize("name", ["nonsense", "rot13", "zlib", "idna", "unicode_escape", "utf-16"])
def test_an_encoding_that_no_page_has_is_utf_8(name: str) -> None:
    page = f'<meta charset="{name}"><p>caf\u00e9</p>'
    assert decode(page.encode()) == page


def test_a_declaration_far_into_the_page_is_none() -> None:
    page = " " * 2000 + '<meta charset="koi8-r">caf\u00e9'
    assert decode(page.encode()) == page


@given(st.binary(max_size=300))
def test_any_bytes_are_taken(content: bytes) -> None:
    decode(content)
