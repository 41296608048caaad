"""What a request asks for: JSON or HTML, which part of a list, a JSON body within bounds.

Pure functions of a request; nothing waits except for the rest of its body.
Whatever is wrong with the request is a `ClientError` that says what was seen
and what was expected.
"""

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from nti.appserver.errors import ClientError

JSON, HTML = "application/json", "text/html"

#: Bytes of a JSON body, and how far into a list a page of it may begin.
BODY_LIMIT = 64 * 1024
START_LIMIT = 100_000


def wants_html(request: Any) -> bool:
    """Whether the client prefers HTML to JSON; one that takes anything gets JSON."""
    offers = request.accept.acceptable_offers([JSON, HTML])
    return bool(offers) and offers[0][0] == HTML


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a list: `count` items from `start` on."""

    start: int
    count: int


def part_of(request: Any, *, default: int, limit: int) -> Part:
    """The part that the query string asks for with `start` and `count`.

    :raises ClientError: 400; one is not a number, or out of bounds.
    """
    return Part(
        _number(request, "start", 0, 0, START_LIMIT),
        _number(request, "count", default, 1, limit),
    )


def _number(request: Any, name: str, default: int, low: int, high: int) -> int:
    text = parameters(request).get(name)
    if text is None:
        return default
    # isascii: int() also takes the digits of other scripts, and any number of them.
    if not (text.isascii() and text.isdigit() and len(text) < 10 and low <= int(text) <= high):
        raise ClientError(
            detail=f"{name} is {text[:20]!r}; expected a whole number from {low} to {high}."
        )
    return int(text)


def parameters(request: Any) -> Any:
    """The query string's parameters.

    :raises ClientError: 400; they are not UTF-8.
    """
    try:
        return request.GET
    except UnicodeDecodeError:
        raise ClientError(detail="The query string is not UTF-8.") from None


def links(request: Any, part: Part, total: int) -> list[dict[str, str]]:
    """Links to the parts before and after this one, where there are any."""
    found = []
    if part.start:
        found.append(("prev", max(0, part.start - part.count)))
    if part.start + part.count < total:
        found.append(("next", part.start + part.count))
    others = {key: value for key, value in request.GET.items() if key not in ("start", "count")}
    return [
        {
            "rel": rel,
            "href": f"{request.path}?{urlencode({**others, 'start': start, 'count': part.count})}",
        }
        for rel, start in found
    ]


def json_body(request: Any) -> dict[str, Any]:
    """The JSON object that the request carries.

    :raises ClientError: 415 for another type, 413 above BODY_LIMIT, 400 for
        what is not a JSON object.
    """
    if request.content_type != JSON and not request.content_type.endswith("+json"):
        raise ClientError(
            415,
            "Unsupported Media Type",
            f"The body is {request.content_type or 'of no type'!r}; expected {JSON}.",
        )
    if (request.content_length or 0) > BODY_LIMIT:
        raise _too_large(f"{request.content_length} bytes")
    body = request.body_file.read(BODY_LIMIT + 1)
    if len(body) > BODY_LIMIT:
        raise _too_large("more")
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise ClientError(detail="The body is not JSON; expected a JSON object.") from None
    if not isinstance(value, dict):
        raise ClientError(detail=f"The body is {_kind_of(value)}; expected a JSON object.")
    return value


_KINDS = {
    bool: "a boolean",
    int: "a number",
    float: "a number",
    str: "a string",
    list: "an array",
    dict: "an object",
    type(None): "null",
}


def _kind_of(value: Any) -> str:
    """What JSON calls a value that it has given."""
    return _KINDS[type(value)]


def _too_large(seen: str) -> ClientError:
    return ClientError(
        413, "Content Too Large", f"The body has {seen}; at most {BODY_LIMIT} bytes are taken."
    )


def text_field(body: dict[str, Any], name: str, limit: int) -> str:
    """A text in a JSON body, without spaces around it.

    :raises ClientError: 400; it is missing, not text, empty, longer than
        `limit` characters, or has characters that no text has.
    """
    value = body.get(name)
    if not isinstance(value, str):
        seen = "missing" if name not in body else _kind_of(value)
        raise ClientError(detail=f"The member {name!r} is {seen}; expected text.")
    value = value.strip()
    if not 0 < len(value) <= limit:
        raise ClientError(
            detail=f"The member {name!r} has {len(value)} characters; expected 1 to {limit}."
        )
    if any(_is_unspeakable(character) for character in value):
        raise ClientError(detail=f"The member {name!r} has a character that text cannot hold.")
    return value


def _is_unspeakable(character: str) -> bool:
    """Half of a surrogate pair, or a control character other than tab and line ends."""
    return "\ud800" <= character <= "\udfff" or (character < " " and character not in "\t\n\r")
