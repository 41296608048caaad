"""One stream of bytes, two servers: what ours makes of it, and what gunicorn's gevent worker does.

Both are driven without a network: the bytes come in given pieces, then the end. Compared are the
environ and body of each request that the application gets, every byte that is sent back (but for
the date), and so what is left over for the next request. Ours is all of the real code, from
`readable` on the hub to the response; only sockets, timers and greenlets are stood in for.

As a script it runs generated streams until so many requests took the fast path:
`python -m tests.http.differential 1000000 [SEED]`.
"""

import logging
import random
import re
import sys
from collections.abc import Iterable, Sequence
from contextlib import nullcontext, suppress
from types import SimpleNamespace
from typing import Any

import gevent.socket
from gunicorn.config import Config
from gunicorn.glogging import Logger
from gunicorn.workers.base_async import AsyncWorker

from nti.appserver.http import connection, stock
from nti.appserver.http.server import HTTPServer
from nti.appserver.settings import Settings
from tests.http.generated import stream

#: Made by the server, not by what the client sent.
LOCAL = frozenset(
    ("wsgi.errors", "wsgi.input", "wsgi.early_hints", "wsgi.file_wrapper", "gunicorn.socket")
)
OURS_ALONE = frozenset(("nti.appserver.connection",))

#: Addresses of clients: loopback is a trusted proxy by default, the other a stranger.
PROXY, STRANGER = ("127.0.0.1", 4711), ("203.0.113.9", 4712)

Environ = dict[str, Any]
Pieces = Sequence[bytes]
#: The requests that the application got, and all that was sent.
Transcript = tuple[list[tuple[Environ, Any]], bytes]

_DATE = re.compile(rb"\r\nDate: [^\r]*")


class Wire:
    """A socket whose peer sends these pieces and then the end."""

    def __init__(self, pieces: Pieces, name: Any = None) -> None:
        self.pieces = [piece for piece in reversed(pieces) if piece]
        self.sent: list[bytes] = []
        self.name = name

    def recv(self, size: int, flags: int = 0) -> bytes:
        if not self.pieces:
            return b""
        piece = self.pieces.pop()
        if len(piece) > size:
            self.pieces.append(piece[size:])
        return piece[:size]

    def send(self, data: bytes, flags: int = 0) -> int:
        self.sent.append(bytes(data))
        return len(data)

    def sendall(self, data: bytes) -> None:
        self.send(data)

    def sendmsg(self, buffers: Iterable[bytes]) -> int:
        return self.send(b"".join(buffers))

    def getsockname(self) -> Any:
        return self.name

    def fileno(self) -> int:
        return -1

    def gettimeout(self) -> None:
        return None

    def setblocking(self, flag: bool) -> None:
        pass

    def shutdown(self, how: int) -> None:
        pass

    def close(self) -> None:
        pass

    def transcript(self) -> bytes:
        return _DATE.sub(b"", b"".join(self.sent))


class Application:
    """Keeps what it is given; reads the body or leaves it, as the query says."""

    def __init__(self) -> None:
        self.seen: list[tuple[Environ, Any]] = []

    def __call__(self, environ: Environ, start: Any) -> Iterable[bytes]:
        body: Any = None
        said = {k: v for k, v in environ.items() if k not in LOCAL | OURS_ALONE}
        said["wsgi.multithread"] = True
        self.seen.append((said, "unread"))
        if "unread" not in environ["QUERY_STRING"]:
            try:
                body = environ["wsgi.input"].read()
            except Exception as problem:
                self.seen[-1] = (said, type(problem).__name__)
                raise
            self.seen[-1] = (said, body)
        words = environ["QUERY_STRING"].split("&")
        status, headers, pieces = ANSWERS[int(words[-1]) if words[-1].isdigit() else 0]
        write = start(status, list(headers))
        if "write" in words:
            write(b"written")
        if "fail" in words:
            raise RuntimeError("on purpose")
        if body and "echo" in words:
            pieces = [body[:100], *pieces]
        return iter(pieces) if "iter" in words else list(pieces)


_TEXT = ("Content-Type", "text/plain")

#: What the application answers, by the number that a query ends with.
ANSWERS: list[tuple[str, list[tuple[str, str]], list[bytes]]] = [
    ("200 OK", [_TEXT, ("X-Way", "same")], [b"ok"]),
    ("200 OK", [_TEXT, ("Content-Length", "2")], [b"ok"]),
    ("200 OK", [("Content-Length", "2"), _TEXT], [b"o", b"", b"k, and too much"]),
    ("200 OK", [("Content-Length", "10")], [b"just ", b"right"]),
    ("404 Not Found", [("Set-Cookie", "a=b"), ("Set-Cookie", "c=d")], []),
    ("204 No Content", [("Content-Length", "0"), ("X-A", "b")], [b""]),
    ("304 Not Modified", [("ETag", '"x"'), ("Content-Length", "7")], [b"dropped"]),
    ("200 OK", [("Connection", "close"), ("Content-Length", "0"), ("Keep-Alive", "1")], []),
    ("200 OK", [("X-Bad", "a\nb")], [b"never"]),
    ("200 OK", [("X Bad", "a")], [b"never"]),
    ("20 OK", [], [b"never"]),
    (
        "200 OK",
        [("X-Space", " \t padded "), ("x-lower", "\xe9"), ("X-Empty", "")],
        [b"", b"ok", b""],
    ),
    ("200 OK", [("Content-Length", "no")], [b"never"]),
    ("200", [("Content-Length", "2"), ("content-length", "3")], [b"abc"]),
    ("101 Switching", [("Connection", "upgrade"), ("Upgrade", "websocket")], []),
    ("200 OK", [_TEXT], [b"x" * 70_000]),
    ("200 OK", [_TEXT, ("Content-Length", "70000")], [b"x" * 40_000, b"y" * 30_000]),
]


def worker(cfg: Config) -> Any:
    """As much of a worker as both servers use."""
    log = Logger(cfg)
    log.error_log.setLevel(logging.CRITICAL + 1)
    made = AsyncWorker.__new__(AsyncWorker)
    made.__dict__.update(
        cfg=cfg, log=log, wsgi=Application(), alive=True, nr=0, max_requests=sys.maxsize,
        worker_connections=1000, PIPE=[], sockets=[], pid=1, timeout_ctx=nullcontext,
    )  # fmt: skip
    return made


class Direct:
    """Runs the jobs of a pool at once."""

    def run(self, job: Any, first: Any, second: Any) -> None:
        job(first, second)


class _Watcher:
    def start(self, *_: Any) -> None:
        pass

    stop = close = start


class Ours:
    """Our server under one configuration; `fast` counts the requests that took the fast path."""

    def __init__(self, cfg: Config, **settings: Any) -> None:
        self.worker = worker(cfg)
        with gevent.socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            self.worker.sockets = [sock]
            self.server: Any = HTTPServer(self.worker, settings=Settings(**settings))
        self.listener = self.server.listeners[0]
        self.name = self.listener.name
        self.listener.loop = SimpleNamespace(
            io=lambda *_: _Watcher(), run_callback=lambda *_: _Watcher()
        )
        self.listener.to_hub = lambda: None  # there are no others who could go first
        self.server.deadlines = SimpleNamespace(watch=lambda *_: None)
        self.server._pool = Direct()
        self.fast = 0
        fast = self.server._serving._fast

        def counted(*args: Any) -> Any:
            self.fast += 1
            return fast(*args)

        self.server._serving._fast = counted

    def serve(self, pieces: Pieces, peer: Any) -> Transcript:
        self.worker.wsgi.seen.clear()
        wire = Wire(pieces)
        conn = connection.Connection(self.listener, wire, peer)
        self.server.connections.add(conn)
        while conn.state != connection.CLOSED:
            assert conn.state != connection.BUSY
            connection.readable(conn)
        assert self.server.busy == 0
        return list(self.worker.wsgi.seen), wire.transcript()


class Theirs:
    """gunicorn's worker under the same configuration."""

    def __init__(self, cfg: Config, name: Any) -> None:
        self.worker = worker(stock.pinned(cfg, schemes=True))
        self.listener = Wire([], name)

    def serve(self, pieces: Pieces, peer: Any) -> Transcript:
        self.worker.wsgi.seen.clear()
        wire = Wire(pieces)
        self.worker.handle(self.listener, wire, peer)
        return list(self.worker.wsgi.seen), wire.transcript()


class Both:
    """Two servers that must do the same, given gunicorn's settings."""

    def __init__(self, cfg: Config | None = None, **values: Any) -> None:
        cfg = cfg or Config()
        for name, value in values.items():
            cfg.set(name, value)
        self.ours = Ours(cfg)
        self.theirs = Theirs(cfg, self.ours.name)

    @property
    def fast(self) -> int:
        return self.ours.fast

    def difference(self, pieces: Pieces, peer: Any) -> str:
        """Where the two differ; '' where they agree."""
        mine, their = self.ours.serve(pieces, peer), self.theirs.serve(pieces, peer)
        if mine == their:
            return ""
        return f"{pieces!r} from {peer[0]}: {_unlike(mine, their)}"


def _unlike(mine: Transcript, their: Transcript) -> str:
    """The first thing that differs."""
    for n, (ours, theirs) in enumerate(zip(mine[0], their[0], strict=False)):
        for key in sorted(ours[0].keys() | theirs[0].keys()):
            if ours[0].get(key) != theirs[0].get(key):
                return f"request {n}, {key}: {ours[0].get(key)!r}, gunicorn {theirs[0].get(key)!r}"
        if ours[1] != theirs[1]:
            return f"request {n}, body: {ours[1]!r}, gunicorn {theirs[1]!r}"
    if len(mine[0]) != len(their[0]):
        return f"{len(mine[0])} requests, gunicorn {len(their[0])}"
    pairs = enumerate(zip(mine[1], their[1], strict=False))
    at = next((n for n, (ours, theirs) in pairs if ours != theirs), len(min(mine[1], their[1])))
    shown = slice(max(0, at - 100), at + 100)
    return f"sent, near byte {at}: {mine[1][shown]!r}, gunicorn {their[1][shown]!r}"


#: The limits leave gunicorn room for a whole stream in its buffer: past that what it refuses
#: depends on how the bytes come.
CONFIGURATIONS: list[dict[str, Any]] = [
    {},
    {
        "header_map": "refuse",
        "secure_scheme_headers": {"X-HTTPS": "yes", "X_FORWARDED_SSL": "on"},
    },
    {"header_map": "dangerous", "forwarder_headers": ""},
    {"limit_request_line": 40, "limit_request_fields": 5},
    {"limit_request_field_size": 60, "limit_request_fields": 400},
    {"keepalive": 0},
]


def main(count: int, seed: int = 1) -> int:
    """Run generated streams until `count` requests took the fast path; print what differs."""
    logging.getLogger("gunicorn.http.wsgi").setLevel(logging.CRITICAL)
    draw = random.Random(seed)
    both = [Both(**values) for values in CONFIGURATIONS]
    streams = wrong = 0
    with suppress(KeyboardInterrupt):
        while sum(it.fast for it in both) < count:
            streams += 1
            found = draw.choice(both).difference(stream(draw), draw.choice((PROXY, STRANGER)))
            if found:
                wrong += 1
                print(found, flush=True)
    fast = sum(it.fast for it in both)
    print(f"{streams} streams (seed {seed}), {fast} requests on the fast path, {wrong} differences")
    return int(wrong > 0)


if __name__ == "__main__":
    raise SystemExit(main(int(sys.argv[1]), *map(int, sys.argv[2:])))
