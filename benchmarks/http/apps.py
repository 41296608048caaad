"""The applications that every server serves; imported by their workers.

Must import nothing that has to be patched first.
"""

import os
from collections.abc import Callable, Iterable
from typing import Any

TEXT = ("Content-Type", "text/plain")
HELLO = [TEXT, ("Content-Length", "5")]
LARGE_SIZE = 1024 * 1024
LARGE = [TEXT, ("Content-Length", str(LARGE_SIZE))]
LARGE_BODY = b"x" * LARGE_SIZE
LARGE_PARTS = [LARGE_BODY[: LARGE_SIZE // 2]] * 2

#: The same as a file without a name, which each request opens at its beginning.
LARGE_FILE = os.memfd_create("large")
os.write(LARGE_FILE, LARGE_BODY)

#: What is streamed: pieces, each to be sent before the next is made.
PIECES = 16
PIECE = b"x" * 4096


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Hello, a large body, one made for it or from a file, a streamed one, or what was posted."""
    if environ["REQUEST_METHOD"] == "POST":
        body = environ["wsgi.input"].read()
        start_response(
            "200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
        )
        return [body]
    path = environ["PATH_INFO"]
    if path == "/large":
        start_response("200 OK", LARGE)
        return [LARGE_BODY]
    if path == "/made":
        start_response("200 OK", LARGE)
        return [b"".join(LARGE_PARTS)]
    if path == "/file":
        start_response("200 OK", LARGE)
        file = open(f"/proc/self/fd/{LARGE_FILE}", "rb")  # noqa: SIM115 - the server closes it
        wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](file)
        return wrapped
    if path == "/streamed":
        start_response("200 OK", [TEXT])
        return (PIECE for _ in range(PIECES))
    start_response("200 OK", HELLO)
    return [b"hello"]


def pyramid() -> Any:
    """One view of Pyramid's that says hello."""
    from pyramid.config import Configurator
    from pyramid.response import Response

    with Configurator() as config:
        config.add_route("hello", "/")
        config.add_view(lambda request: Response("hello"), route_name="hello")
        return config.make_wsgi_app()
