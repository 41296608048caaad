"""One request, two judges: what our fast path makes of bytes, and what gunicorn's parser does.

Used by the tests, and as a script that runs as many generated cases as asked:
`python -m tests.http.differential 1000000`. No sockets; nothing is patched.
"""

import random
import re
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

from gunicorn.config import Config
from gunicorn.http.message import Request as StockRequest
from gunicorn.http.unreader import IterUnreader
from gunicorn.http.wsgi import create

from nti.appserver.http import stock
from nti.appserver.http.client import Trust
from nti.appserver.http.connection import END
from nti.appserver.http.head import HeadParser

ROOT = Path(__file__).resolve().parents[2]
SERVER = ("127.0.0.1", 8080)
VERSION = "27.0.1"

#: Made by the server, not by what the client sent.
LOCAL = ("wsgi.errors", "wsgi.input", "wsgi.early_hints", "gunicorn.socket", "wsgi.file_wrapper")


class Peer:
    """A client address; loopback is trusted by default."""

    def __init__(self, host: str) -> None:
        self.address = (host, 4711)


PROXY, STRANGER = Peer("127.0.0.1"), Peer("203.0.113.9")


class _Socket:
    def send(self, data: bytes) -> int:
        return len(data)

    sendall = send


class _Conn:
    def __init__(self, peer: Peer) -> None:
        self.peer = peer.address
        self.seen = False


def configuration(**values: Any) -> Config:
    """gunicorn's defaults with these values, its parser pinned as the server pins it."""
    cfg = Config()
    for name, value in values.items():
        cfg.set(name, value)
    return stock.pinned(cfg, schemes=True)


def theirs(cfg: Config, data: bytes, peer: Peer) -> dict[str, Any]:
    """What gunicorn makes of the first request in `data`."""
    unreader = IterUnreader([data])
    try:
        req = StockRequest(cfg, unreader, peer.address)
        _, environ = create(req, _Socket(), peer.address, SERVER, cfg)
    except (Exception, StopIteration) as problem:
        return {"error": type(problem).__name__}
    return _described(req, environ, unreader)


def _described(req: Any, environ: dict[str, Any], unreader: Any) -> dict[str, Any]:
    body = error = None
    try:
        body = req.body.read()
    except Exception as problem:
        error = type(problem).__name__
    strings = {k: v for k, v in environ.items() if k not in LOCAL}
    strings.pop("wsgi.multithread", None)
    return {
        "environ": strings,
        "method": req.method,
        "uri": req.uri,
        "path": req.path,
        "query": req.query,
        "version": req.version,
        "scheme": req.scheme,
        "headers": req.headers,
        "closes": req.should_close(),
        "body": body,
        "body error": error,
        "rest": None if error else unreader.take_buffered() + b"".join(unreader.iter or ()),
    }


class Ours:
    """The fast path under one configuration."""

    def __init__(self, cfg: Config) -> None:
        from gunicorn.http.wsgi import base_environ

        self.cfg = cfg
        self.trust = Trust(cfg)
        self.heads = {
            trusted: HeadParser(cfg, trusted=trusted, scheme="https" if cfg.is_ssl else "http")
            for trusted in (False, True)
        }
        self.template = {
            **base_environ(cfg),
            "wsgi.url_scheme": "https" if cfg.is_ssl else "http",
            "SCRIPT_NAME": "",
            "SERVER_NAME": SERVER[0],
            "SERVER_PORT": str(SERVER[1]),
        }

    def judge(self, data: bytes, peer: Peer) -> dict[str, Any] | None:
        """What the fast path makes of the first request; None: it leaves it to gunicorn."""
        end = data.find(END)
        if end <= 0 or self.cfg.proxy_protocol != "off":
            return None
        environ = dict(self.template, REMOTE_ADDR=peer.address[0], REMOTE_PORT=str(peer.address[1]))
        req = self.heads[self.trust.peer(peer.address)].parse(data[:end], environ)
        if req is None:
            return None
        from gunicorn.http.body import Body, LengthReader

        unreader = IterUnreader([])
        unreader.unread(data[end + 4 :])
        req.body = Body(LengthReader(unreader, int(environ.get("CONTENT_LENGTH", 0))))
        return _described(req, environ, unreader)


def difference(ours: Ours, data: bytes, peer: Peer) -> str:
    """Where the two judges differ on `data`; '' where they agree or ours leaves it to gunicorn."""
    mine = ours.judge(data, peer)
    if mine is None:
        return ""
    their = theirs(ours.cfg, data, peer)
    if "error" in their:
        return f"{data!r}: we accept, gunicorn raises {their['error']}"
    for key, value in their.items():
        if mine[key] != value:
            return f"{data!r}: {key}: ours {mine[key]!r}, gunicorn's {value!r}"
    return ""


def early_difference(cfg: Config, data: bytes, cut: int, peer: Peer) -> str:
    """Whether a fault in the first `cut` bytes is seen as early as gunicorn sees it.

    The server asks gunicorn's parser only at the end of a line or past the limit of the first;
    at any other byte it would have had to say "more".
    """
    part = data[:cut]
    if part.find(END) > 0 or b"\n" in part[-1:] or len(part) > cfg.limit_request_line > 0:
        return ""
    conn: Any = _Conn(peer)
    seen_before = stock.judge(cfg, conn, part[: part.rfind(b"\n") + 1])
    if not seen_before and stock.judge(cfg, conn, part):
        return f"{part!r}: gunicorn sees a fault that we wait on"
    return ""


# -- the corpus that gunicorn's source distribution has


def corpus() -> Path | None:
    """gunicorn's tests/requests, fetched once; None where it cannot be had."""
    folder = ROOT / ".cache" / "gunicorn-sdist"
    archive = folder / f"gunicorn-{VERSION}.tar.gz"
    if not archive.exists():
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-binary", ":all:"]
        command += ["--no-deps", "--no-build-isolation", "-d", str(folder), f"gunicorn=={VERSION}"]
        subprocess.run(command, check=False, capture_output=True, timeout=120)
    if not archive.exists():
        return None
    found = folder / f"gunicorn-{VERSION}" / "tests" / "requests"
    if not found.exists():
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
    return found


def cases(folder: Path) -> list[tuple[str, bytes, Config]]:
    """Each file of the corpus: its name, its bytes, and the configuration it is meant for."""
    found = []
    for path in sorted(folder.glob("*/*.http")):
        data = path.read_bytes().replace(b"\n", b"").replace(b"\\r\\n", b"\r\n")
        for escape, byte in ((b"\\0", b"\0"), (b"\\n", b"\n"), (b"\\r", b"\r"), (b"\\t", b"\t")):
            data = data.replace(escape, byte)
        data = re.sub(rb"\\x([0-9A-Fa-f]{2})", lambda found: bytes([int(found[1], 16)]), data)
        scope: dict[str, Any] = {"uri": str, "cfg": Config(), "__name__": path.stem}
        source = path.with_suffix(".py")
        if source.exists():
            exec(compile(source.read_text("utf-8"), str(source), "exec"), scope)
        cfg = scope["cfg"]
        found.append((f"{path.parent.name}/{path.stem}", data, stock.pinned(cfg, schemes=True)))
    return found


# -- generated requests

FIELDS = [
    b"Host: example.org", b"User-Agent: x/1", b"Accept: */*", b"Connection: close",
    b"Connection: keep-alive", b"Content-Length: 3", b"Content-Length: 0",
    b"Transfer-Encoding: chunked", b"Expect: 100-continue", b"X-Forwarded-Proto: https",
    b"X-Forwarded-Proto: http", b"X-Forwarded-SSL: on", b"X-Forwarded-For: 198.51.100.7",
    b"Cookie: a=b", b"X_Under: 1", b"SCRIPT_NAME: /a", b"Content-Type: text/plain",
    b"X-Latin: \xe9", b"X-Empty:", b"X-Space: \t a b \t", b"Upgrade: websocket", b"TE: trailers",
]  # fmt: skip
LINES = [
    b"GET / HTTP/1.1", b"POST /a?b=c HTTP/1.1", b"HEAD /%41%2f HTTP/1.0", b"PUT //x HTTP/1.1",
    b"GET http://h/p HTTP/1.1", b"OPTIONS * HTTP/1.1", b"GET /a#b HTTP/1.1", b"GET / HTTP/1.2",
    b"get / HTTP/1.1", b"DELETE /\xc3\xa9 HTTP/1.1", b"CONNECT h:1 HTTP/1.1",
    b"GET /;p?q?r HTTP/1.1",
]  # fmt: skip
MUTATIONS = [
    b"\r", b"\n", b"\0", b" ", b"\t", b":", b"\x7f", b"\xff", b"\r\n", b"\r\n\r\n", b"a", b"_",
    b"0", b"%", b"/", b"#", b"?", b",", b";", b"\x0b", b"\x85",
]  # fmt: skip


def generated(draw: random.Random) -> bytes:
    """A request, more or less well formed, with bytes behind it."""
    fields = draw.choices(FIELDS, k=draw.randrange(6))
    data = b"\r\n".join([draw.choice(LINES), *fields]) + END
    data += draw.choice([b"", b"abc", b"abcGET / HTTP/1.1\r\n\r\n", b"3\r\nabc\r\n0\r\n\r\n"])
    for _ in range(draw.choice([0, 0, 1, 1, 2, 3])):
        at = draw.randrange(len(data))
        if draw.random() < 0.3:
            data = data[:at] + data[at + draw.randrange(1, 4) :]
        else:
            data = data[:at] + draw.choice(MUTATIONS) + data[at + draw.randrange(2) :]
    return data


def main(count: int, seed: int = 1) -> int:
    """Run `count` generated cases; print what differs, and how many were the fast path's."""
    draw, cfg = random.Random(seed), configuration()
    ours, fast, wrong = Ours(cfg), 0, 0
    for _ in range(count):
        data, peer = generated(draw), draw.choice((PROXY, STRANGER))
        fast += ours.judge(data, peer) is not None
        found = difference(ours, data, peer)
        found = found or early_difference(cfg, data, draw.randrange(len(data) + 1), peer)
        if found:
            wrong += 1
            print(found)
    print(f"{count} cases (seed {seed}), {fast} on the fast path, {wrong} differences")
    return int(wrong > 0)


if __name__ == "__main__":
    raise SystemExit(main(int(sys.argv[1]), *map(int, sys.argv[2:])))
