"""Headers that make a response safe unless its view says otherwise.

One subscriber, which runs in the request's greenlet and does not switch.
"""

from typing import Any

from pyramid.events import NewResponse, subscriber

#: For every response that sets no policy of its own: it may be read, and do nothing.
STRICT_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'self'"
)


@subscriber(NewResponse)
def add_headers(event: Any) -> None:
    """No guessing of types, no policy forgotten, no address told to other sites."""
    headers = event.response.headers
    headers["X-Content-Type-Options"] = "nosniff"
    headers.setdefault("Content-Security-Policy", STRICT_POLICY)
    headers.setdefault("Referrer-Policy", "same-origin")
