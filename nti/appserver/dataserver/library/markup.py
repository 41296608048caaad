"""The library's lists and search results as plain HTML, for browsers without the page at `/`.

Pure functions. Every text from a file, a query or the database passes through
`escape`, and the policy of these pages allows no script at all.
"""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any


def document(title: str, *parts: str) -> str:
    """A whole page; `parts` are markup already."""
    return (
        "<!doctype html>\n"
        '<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n"
        '<link rel="stylesheet" href="/static/plain.css"></head>\n'
        f"<body><main><h1>{escape(title)}</h1>\n" + "\n".join(parts) + "\n</main></body></html>\n"
    )


def link(href: str, text: str) -> str:
    """A link; both are text."""
    return f'<a href="{escape(href)}">{escape(text)}</a>'


def items(entries: Iterable[str]) -> str:
    """A list of markup."""
    return "<ul>\n" + "\n".join(f"<li>{entry}</li>" for entry in entries) + "\n</ul>"


def units(title: str, resources: Iterable[dict[str, Any]]) -> str:
    """The units of the library."""
    entries = (
        f"{link(unit['href'], unit['title'])} <small>{unit['pages']} pages</small>"
        for unit in resources
    )
    return document(title, items(entries))


def pages(unit: dict[str, Any], resources: Iterable[dict[str, Any]]) -> str:
    """The pages of a unit that has no index page of its own."""
    entries = [link(page["href"], page["title"]) for page in resources]
    return document(unit["title"], items(entries), f"<p>{link('/library', 'All units')}</p>")


def results(resource: dict[str, Any]) -> str:
    """The hits of a search, with links to more of them."""
    total = resource["total"]
    found = f"<p>{total} {'page' if total == 1 else 'pages'} found.</p>"
    hits = "\n".join(_hit(hit) for hit in resource["Items"])
    more = " ".join(
        link(entry["href"], {"prev": "Previous", "next": "Next"}[entry["rel"]])
        for entry in resource["Links"]
    )
    return document(f"Search: {resource['query']}", found, hits, f"<nav>{more}</nav>")


def _hit(hit: dict[str, Any]) -> str:
    section = f" <small>{escape(hit['section'])}</small>" if hit["section"] else ""
    return (
        f"<article><h2>{link(hit['href'], hit['title'])}{section}</h2>\n"
        f"<p>{_snippet(hit['snippet'])}</p></article>"
    )


def _snippet(pieces: Sequence[dict[str, Any]]) -> str:
    return "".join(
        f"<mark>{escape(piece['text'])}</mark>" if piece["hit"] else escape(piece["text"])
        for piece in pieces
    )
