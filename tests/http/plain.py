"""What both workers serve, ours and gunicorn's own: applications of plain WSGI, and hooks.

Imported by the workers of the servers under test. It is gunicorn's configuration file, too.
"""

import io
import os
import pathlib
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

#: In the worker's own folder.
FILE = pathlib.Path("file.txt")

Environ = dict[str, Any]
Start = Callable[..., Any]

#: gunicorn's settings, with the hooks below.
http_parser = "python"

TEXT = bytes(range(32, 127)) * 3000


def echo(environ: Environ, start: Start) -> Iterable[bytes]:
    body = environ["wsgi.input"].read()
    start("200 OK", [("Content-Length", str(len(body)))])
    return [body]


def lines(environ: Environ, start: Start) -> Iterable[bytes]:
    start("200 OK", [("Content-Type", "text/plain")])
    yield from environ["wsgi.input"]


def pieces(environ: Environ, start: Start) -> Iterable[bytes]:
    start("200 OK", [("Content-Type", "text/plain"), ("X-Twice", "1"), ("X-Twice", "2")])
    return (piece for piece in (b"one", b"", b"two"))


def status(environ: Environ, start: Start) -> Iterable[bytes]:
    """The query: a status, and whether a length is told."""
    code, _, length = environ["QUERY_STRING"].partition(",")
    start(f"{code} Some Reason", [("Content-Length", length)] if length else [])
    return [b"a body"]


def writes(environ: Environ, start: Start) -> Iterable[bytes]:
    write = start("200 OK", [("Content-Length", "10")])
    write(b"first")
    return [b"second is too long"]


def short(environ: Environ, start: Start) -> Iterable[bytes]:
    start("200 OK", [("Content-Length", "100")])
    return [b"less than was said"]


def hoppish(environ: Environ, start: Start) -> Iterable[bytes]:
    start("200 OK", [("Connection", "close"), ("Keep-Alive", "5"), ("TE", "x"), ("X-Kept", "1"),
                     ("Transfer-Encoding", "chunked"), ("Content-Length", "2")])  # fmt: skip
    return [b"ok"]


class Rewinding:
    """An iterator that begins anew when it is asked for itself."""

    def __iter__(self) -> "Rewinding":
        self.pieces = [b"three", b"two", b"one"]
        return self

    def __next__(self) -> bytes:
        if not self.pieces:
            raise StopIteration
        return self.pieces.pop()


def rewinds(environ: Environ, start: Start) -> Iterable[bytes]:
    start("200 OK", [])
    return Rewinding()


def another(environ: Environ, start: Start) -> Iterable[bytes]:
    """Starts a response, and another one when that goes wrong."""
    start("200 OK", [("X-First", "1"), ("Content-Length", "77")])
    try:
        raise ValueError
    except ValueError as problem:
        start("503 Later", [("X-Second", "1")], (ValueError, problem, None))
    return [b"later"]


def invalid(environ: Environ, start: Start) -> Iterable[bytes]:
    start("200 OK", [("X-Split", "a\r\nX-Injected: 1")])
    return [b"never"]


def fails(environ: Environ, start: Start) -> Iterator[bytes]:
    """Before the first byte, or after it where a query says so."""
    start("200 OK", [("X-Leaked", "1")])
    if environ["QUERY_STRING"]:
        yield b"some"
    raise RuntimeError("on purpose")


def nothing(environ: Environ, start: Start) -> Iterable[bytes]:
    start("200 OK", [])
    return []


def hints(environ: Environ, start: Start) -> Iterable[bytes]:
    environ["wsgi.early_hints"]([("Link", "</a.css>; rel=preload"), ("X-More", "1")])
    environ["wsgi.early_hints"]([("Link", "</b.css>; rel=preload")])
    start("200 OK", [("Content-Length", "5")])
    yield b"hello"
    environ["wsgi.early_hints"]([("Link", "</too-late.css>")])


def file(environ: Environ, start: Start) -> Iterable[bytes]:
    """A file, from its tenth byte on; the query: a length to tell, or `memory` for no real file."""
    query = environ["QUERY_STRING"]
    FILE.write_bytes(TEXT)
    opened: Any = io.BytesIO(TEXT) if query == "memory" else open(FILE, "rb")  # noqa: SIM115
    opened.seek(10)
    start("200 OK", [("Content-Length", query)] if query.isdigit() else [])
    wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](opened, 1000)
    return wrapped


def raises(environ: Environ, start: Start) -> Iterable[bytes]:
    raise {"os": FileNotFoundError, "time": TimeoutError}[environ["QUERY_STRING"]]("on purpose")


def sleeps(environ: Environ, start: Start) -> Iterable[bytes]:
    environ["wsgi.errors"].write("asleep\n")
    time.sleep(60)
    start("200 OK", [])
    return [b"awake"]


def large(environ: Environ, start: Start) -> Iterable[bytes]:
    start("200 OK", [("Content-Length", str(len(TEXT) * 20))])
    return [TEXT * 20]


def narrow(environ: Environ, start: Start) -> Iterable[bytes]:
    """From now on the kernel takes little of what is sent, before the client has."""
    with socket.socket(fileno=os.dup(environ["gunicorn.socket"].fileno())) as same:
        same.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    return nothing(environ, start)


def trailers(environ: Environ, start: Start) -> Iterable[bytes]:
    body = environ["wsgi.input"].read()
    request = getattr(environ["wsgi.input"], "reader", None)
    said = repr(getattr(getattr(request, "req", None), "trailers", None)).encode()
    start("200 OK", [])
    return [body, said]


PATHS = {
    f"/{function.__name__}": function
    for function in (
        another, echo, fails, file, hints, hoppish, invalid, large, lines, narrow, nothing, pieces,
        raises, rewinds, short, sleeps, status, trailers, writes,
    )
}  # fmt: skip


def app(environ: Environ, start: Start) -> Iterable[bytes]:
    return PATHS.get(environ["PATH_INFO"], nothing)(environ, start)


def pre_request(worker: Any, req: Any) -> None:
    worker.log.info("pre %s %s", req.method, req.path)
    if req.path == "/refused":
        raise ValueError("by the hook")


def post_request(worker: Any, req: Any, environ: Environ, resp: Any) -> None:
    worker.log.info("post %s %s", req.uri, getattr(resp, "status", None))
    if req.path == "/nothing":
        raise ValueError("after the request")
