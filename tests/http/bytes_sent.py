"""What is sent on one connection, by a name for each: every rule of HTTP/1 that gunicorn keeps."""

_FIELDS = 'Host: a\r\nReferer: "r\r\nUser-Agent: u\r\nAuthorization: Basic dXNlcjpwdw==\r\n'
_PIECES = "3\r\nabc\r\n4;ext=1\r\ndefg\r\n0\r\n"


def ask(path: str, method: str = "GET", fields: str = "") -> str:
    """A request without a body; each field ends with a semicolon."""
    return f"{method} {path} HTTP/1.1\r\n{_FIELDS}" + fields.replace(";", "\r\n") + "\r\n"


def post(path: str, body: str, fields: str = "") -> str:
    return ask(path, "POST", f"{fields}Content-Length: {len(body)};") + body


def chunked(path: str, body: str = _PIECES + "\r\n") -> str:
    return ask(path, "POST", "Transfer-Encoding: chunked;") + body


NEXT = ask("/echo")

STREAMS = {
    "keep-alive": NEXT + post("/echo", "abc") + ask("/pieces"),
    "close": ask("/pieces", fields="Connection: close;") + NEXT,
    "1.0": "GET /pieces HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /echo HTTP/1.0\r\n\r\n",
    "1.0 kept": "GET /echo HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /echo HTTP/1.0\r\n\r\n",
    "head": "".join(ask(path, "HEAD") for path in ("/pieces", "/status?200,6", "/file?5")) + NEXT,
    "no body": "".join(
        ask(f"/status?{code}") for code in ("204", "304", "204,6", "304,6", "205", "404")
    ),
    "chunked": chunked("/echo") + NEXT,
    "chunked twice": chunked("/lines") * 2,
    "trailers": chunked("/trailers", _PIECES + "X-T: 1\r\n\r\n") + NEXT,
    "bad trailers": chunked("/trailers", _PIECES + "Host: x\r\n\r\n") + NEXT,
    "bad chunk": chunked("/echo", "xx\r\nabc\r\n"),
    "short chunk": chunked("/echo", "9\r\nabc\r\n"),
    "short body": ask("/echo", "POST", "Content-Length: 10;") + "abc",
    "body unread": post("/nothing", "abc") + NEXT,
    "lines": post("/lines", "a\nbc\n\nde") + NEXT,
    "continue": post("/echo", "abc", "Expect: 100-continue;") + NEXT,
    "expects else": post("/echo", "abc", "Expect: else;"),
    "hints": ask("/hints") + NEXT,
    "hints to 1.0": "GET /hints HTTP/1.0\r\n\r\n",
    "file": ask("/file") + ask("/file?50000") + NEXT,
    "file to 1.0": "GET /file HTTP/1.0\r\n\r\n",
    "no real file": ask("/file?memory") + NEXT,
    "large": ask("/large") + NEXT,
    "large body": post("/echo", "0123456" * 100_000),
    "write": ask("/writes") + NEXT,
    "asked for its iterator once": ask("/rewinds") + NEXT,
    "hoppish": ask("/hoppish") + NEXT,
    "invalid": ask("/invalid") + NEXT,
    "fails": ask("/fails") + NEXT,
    "fails late": ask("/fails?late") + NEXT,
    "refused by a hook": ask("/refused") + NEXT,
    "pipelined": "".join(post("/echo", "x" * n) for n in range(40)),
    "mounted": ask("/a/b/echo", fields="SCRIPT_NAME: /a/b;"),
    "mounted elsewhere": ask("/echo", fields="SCRIPT_NAME: /a;"),
    "line too long": ask("/" + "x" * 5000),
    "field too long": ask("/echo", fields=f"X: {'x' * 9000};"),
    "too many fields": ask("/echo", fields="X: 1;" * 101),
    "twice": ask("/echo", fields="X: 1;X: 2;Cookie: a;Cookie: b;"),
    "both lengths": chunked("/echo").replace("Host", "Content-Length: 3\r\nHost"),
    "underscore": ask("/echo", fields="X_Y: 1;"),
    "absolute": ask("http://b/echo"),
    "garbage": "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "empty line first": "\r\n" + NEXT,
    "unfinished": "GET /echo HTTP/1.1\r\nHos",
    "nothing": "",
}
