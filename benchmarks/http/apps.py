"""The application that both servers serve; imported by their workers."""

from collections.abc import Callable, Iterable
from typing import Any

HELLO = [("Content-Type", "text/plain"), ("Content-Length", "5")]


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Hello, or the body that was posted."""
    if environ["REQUEST_METHOD"] == "POST":
        body = environ["wsgi.input"].read()
        start_response(
            "200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
        )
        return [body]
    start_response("200 OK", HELLO)
    return [b"hello"]
