"""What tests/http/test_serving.py serves: one small application for each path.

Imported by the worker of the server under test, never by the tests.
"""

import gc
import io
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import gevent
from greenlet import greenlet

from nti.appserver.application import AppServer
from nti.appserver.hub import native

#: Bytes of `sparse`.
SPARSE = 64 << 20

#: What `kept` answers.
KEPT = b"".join(b"%8d" % number for number in range(1 << 17))

Environ = dict[str, Any]
Start = Callable[..., Any]


def echo(environ: Environ, start: Start) -> Iterable[bytes]:
    body = environ["wsgi.input"].read()
    start("200 OK", [("Content-Length", str(len(body)))])
    return [body]


def streamed(environ: Environ, start: Start) -> Iterable[bytes]:
    """Without a length, so that the server has to frame it."""
    start("200 OK", [("Content-Type", "text/plain")])
    return (piece for piece in (b"one", b"", b"two", environ["wsgi.input"].read()))


def status(environ: Environ, start: Start) -> Iterable[bytes]:
    code = environ["QUERY_STRING"]
    start(f"{code} Whatever", [("X-Code", code)])
    return [b"" if code in ("204", "304") else b"a body"]


def describe(environ: Environ, start: Start) -> Iterable[bytes]:
    environ["wsgi.input"].read()
    said = {key: value for key, value in environ.items() if isinstance(value, str)}
    if "nti.appserver.connection" in environ:  # not over HTTP/2
        said["peer"] = environ["nti.appserver.connection"].peer
    body = json.dumps(said).encode()
    start("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


def waits(environ: Environ, start: Start) -> Iterable[bytes]:
    """Says that it has begun in the error log, and ends when the file `release` is there."""
    environ["wsgi.errors"].write("a request waits\n")
    until_released(gevent.sleep)
    start("200 OK", [("Content-Length", "5")])
    return [b"ended"]


def until_released(pause: Callable[[float], object]) -> None:
    deadline = time.monotonic() + 20
    while not os.path.exists("release") and time.monotonic() < deadline:
        pause(0.05)


def lasts(environ: Environ, start: Start) -> Iterable[bytes]:
    """In flight for a second from now on."""
    environ["wsgi.errors"].write("a request lasts\n")
    gevent.sleep(1)
    start("200 OK", [("Content-Length", "5")])
    return [b"ended"]


def fails(environ: Environ, start: Start) -> Iterable[bytes]:
    start("200 OK", [("X-Leaked", "1"), ("Content-Length", "100")])
    raise RuntimeError("on purpose, before a byte was sent")


def fails_late(environ: Environ, start: Start) -> Iterator[bytes]:
    start("200 OK", [("X-Leaked", "1")])
    yield b"some"
    raise RuntimeError("on purpose, after the first bytes")


def ticks(environ: Environ, start: Start) -> Iterator[bytes]:
    """64 pieces without a pause; with a length if the query says so."""
    start("200 OK", [("Content-Length", "64000")] if environ["QUERY_STRING"] else [])
    for number in range(64):
        yield b"%1000d" % number


def pauses(environ: Environ, start: Start) -> Iterator[bytes]:
    """Some pieces, the last when `release` is there; it waits for that as the query says."""
    start("200 OK", [])
    yield from (b"at", b" ", b"once")
    until_released(gevent.sleep if environ["QUERY_STRING"] == "switching" else native.sleep)
    yield from (b" at", b" last")


def fails_later(environ: Environ, start: Start) -> Iterator[bytes]:
    """Some pieces at once, of a body that does not end well."""
    start("200 OK", [])
    yield from (b"one", b"two", b"three")
    raise RuntimeError("on purpose, after some pieces")


def times_out(environ: Environ, start: Start) -> Iterator[bytes]:
    """gevent.Timeout is no Exception; the query says how many pieces come before it."""
    start("200 OK", [])
    for _ in range(int(environ["QUERY_STRING"])):
        yield b"piece"
    raise gevent.Timeout(1)


def short(environ: Environ, start: Start) -> Iterable[bytes]:
    """20 bytes are promised, and 5 come."""
    start("200 OK", [("Content-Length", "20")])
    if environ["QUERY_STRING"] == "list":
        return [b"short"]
    if environ["QUERY_STRING"] == "generator":
        return (piece for piece in (b"sh", b"ort"))
    return file_of(environ, b"short" if environ["QUERY_STRING"] == "file" else b"")


def sparse(environ: Environ, start: Start) -> Iterable[bytes]:
    """A file of more than a kernel takes at a time; with a length if the query says so."""
    with open("sparse", "wb") as file:
        file.truncate(SPARSE)
    start("200 OK", [("Content-Length", str(SPARSE))] if environ["QUERY_STRING"] else [])
    wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](open("sparse", "rb"))  # noqa: SIM115
    return wrapped


def cut(environ: Environ, start: Start) -> Iterable[bytes]:
    """Takes most of that file away."""
    os.truncate("sparse", 1000)
    start("200 OK", [])
    return []


def empty(environ: Environ, start: Start) -> Iterable[bytes]:
    """A file with nothing in it."""
    start("200 OK", [])
    return file_of(environ, b"")


def file_of(environ: Environ, content: bytes) -> Iterable[bytes]:
    """A real file, which the server closes."""
    file = tempfile.TemporaryFile()  # noqa: SIM115
    file.write(content)
    file.seek(0)
    wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](file)
    return wrapped


def wrapped(environ: Environ, start: Start) -> Iterable[bytes]:
    """What is no file, as a file."""
    start("200 OK", [])
    wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](io.BytesIO(b"x" * 64_000), 1000)
    return wrapped


def impatient(environ: Environ, start: Start) -> Iterable[bytes]:
    """Answers though its body has not come, or the first part of it when the rest has, too."""
    body = environ["wsgi.input"]
    with gevent.Timeout(0.1, False):
        body.read()
    if environ["QUERY_STRING"] == "again":
        return echo(environ, start)
    start("200 OK", [("Content-Length", "2")])
    return [b"ok"]


def kept(environ: Environ, start: Start) -> Iterable[bytes]:
    """A large body: `KEPT`, or one that is made for this request; with the length in the query."""
    way, _, length = environ["QUERY_STRING"].partition("=")
    start("200 OK", [("Content-Length", length or str(len(KEPT)))] if way != "streamed" else [])
    return [KEPT if way != "made" else KEPT[:-1] + b"."]


def ignores_body(environ: Environ, start: Start) -> Iterable[bytes]:
    start("200 OK", [("Content-Length", "2")])
    return [b"ok"]


def asks_socket(environ: Environ, start: Start) -> Iterable[bytes]:
    """Asks its socket for what only a real one knows, as for a client's certificate."""
    body = repr(environ["gunicorn.socket"].getpeername()).encode()
    body += environ["wsgi.input"].read()
    start("200 OK", [("Content-Length", str(len(body)))])
    return [body]


def blocks(environ: Environ, start: Start) -> Iterable[bytes]:
    """Holds the whole worker up until the file `release` is there."""
    environ["wsgi.errors"].write("the worker is held up\n")
    until_released(native.sleep)
    start("200 OK", [("Content-Length", "5")])
    return [b"ended"]


def census(environ: Environ, start: Start) -> Iterable[bytes]:
    """How many greenlets live in this worker, and how many sockets are open in it."""
    greenlets = sum(isinstance(it, greenlet) and not it.dead for it in gc.get_objects())
    targets = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")[:-1]]
    sockets = sum(target.startswith("socket:") for target in targets)
    start("200 OK", [])
    return [f"{greenlets} {sockets}".encode()]


def websocket(environ: Environ, start: Start) -> Iterable[bytes]:
    ws = environ["wsgi.websocket"]
    while (message := ws.receive()) is not None:
        ws.send(message)
    return []


def worker(environ: Environ, start: Start) -> Iterable[bytes]:
    """The process that serves."""
    start("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]


PATHS = {
    f"/{function.__name__}": function
    for function in (
        asks_socket, blocks, census, cut, describe, echo, empty, fails, fails_late, fails_later,
        ignores_body, impatient, kept, lasts, pauses, short, sparse, status, streamed, ticks,
        times_out, waits, websocket, worker, wrapped,
    )
}  # fmt: skip


def application(environ: Environ, start: Start) -> Iterable[bytes]:
    return PATHS[environ["PATH_INFO"]](environ, start)


app = AppServer(application)
