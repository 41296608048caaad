"""Streams of requests, more or less well formed: from a random.Random, or by Hypothesis.

Most are plain, as browsers and proxies send them, so that the fast path takes them; the rest are
changed at any byte, or made of what is seldom sent.
"""

import random

from hypothesis import strategies as st

METHODS = [b"GET", b"GET", b"GET", b"POST", b"PUT", b"HEAD", b"DELETE", b"PATCH", b"OPTIONS"]
TARGETS = [
    b"/", b"/a/b", b"/a?b=c", b"/%41%2f%e2%82%ac", b"/;p?q?r", b"/x?unread",
    *(b"/x?%d" % number for number in range(17)), b"/x?iter&0", b"/x?iter&2", b"/x?iter&11",
    b"/x?write&0", b"/x?write&13", b"/x?fail&0", b"/x?fail&write&1", b"/x?echo&0",
    b"/x?echo&iter&0", b"/x?iter&15", b"/x?unread&iter&0", b"/x?echo&3", b"/x?iter&5",
    b"/x?write&5", b"/x?1&1", b"/a+b%20c?d=%26&e", b"/~u/!$&'()*+,=:@", b"/?",
    b"/a//b/../c",
]  # fmt: skip
PLAIN = [
    b"User-Agent: x/1 (y; z)", b"Accept: */*", b"Accept-Encoding: gzip, br", b"Cookie: a=b; c=d",
    b"X-Request-ID: 0af7651916cd43dd", b"Content-Type: text/plain", b"If-None-Match: \"x\"",
    b"Connection: keep-alive", b"X-Latin: \xe9\xff", b"X-Empty:", b"X-Space: \t a b \t",
    b"Upgrade: websocket", b"Referer: http://example.org/?a#b", b"Authorization: Basic dTpw",
    b"X-Forwarded-Proto: https", b"X-Forwarded-Proto: http", b"X-Forwarded-SSL: on",
    b"X-HTTPS: yes", b"x-lower: 1", b"X-!#$%&'*+.^`|~: 1", b"Cache-Control: no-cache",
]  # fmt: skip
ODD_LINES = [
    b"PUT //x HTTP/1.1", b"GET http://h/p HTTP/1.1", b"OPTIONS * HTTP/1.1", b"GET /a#b HTTP/1.1",
    b"GET / HTTP/1.2", b"GET / HTTP/2.0", b"get / HTTP/1.1", b"DELETE /\xc3\xa9 HTTP/1.1",
    b"CONNECT h:1 HTTP/1.1", b"GET  / HTTP/1.1", b"GET / HTTP/1.1 ", b"GET /", b"FROB /a HTTP/1.1",
    b"GET /" + b"l" * 60 + b" HTTP/1.1", b"GET http://[::1 HTTP/1.1", b"",
]  # fmt: skip
ODD = [
    b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: x",
    b"transfer-encoding:\tchunked", b"Expect: 100-continue", b"Expect: else", b"Host: twice",
    b"Content-Length: 3", b"Content-Length: +3", b"Content-Length: 0", b"Content-Length: 3, 3",
    b"Content-Length: 99999999999999999999", b"Content-Length:", b"X_Under: 1", b"SCRIPT_NAME: /a",
    b"PATH_INFO: /x", b"SCRIPT_NAME: /", b"Connection: close", b"Connection: close, x",
    b"Connection: keep-alive", b"Trailer: X-T", b"TE: trailers", b" folded: 1", b"no colon",
    b": no name", b"Sp ace: 1", b"Space : 1", b"X-Null: a\0b", b"X-Del: \x7f", b"X-CR: a\rb",
    b"X-Long: " + b"v" * 60, b"X-Repeated: 1", b"X-Repeated: 2", b"X-Forwarded-Proto: ftp",
    b"Content-Type: twice", b"Content-Type: and again", b"\xdf: sharp", b"CONTENT_LENGTH: 1",
]  # fmt: skip
MUTATIONS = [
    b"\r", b"\n", b"\0", b" ", b"\t", b":", b"\x7f", b"\xff", b"\r\n", b"\r\n\r\n", b"a", b"_",
    b"0", b"%", b"/", b"#", b"?", b",", b";", b"\x0b", b"\x85",
]  # fmt: skip
CHUNKED = [
    b"3\r\nabc\r\n0\r\n\r\n", b"0\r\n\r\n", b"3;e=1\r\nabc\r\n0\r\nX-T: 1\r\n\r\n", b"g\r\nabc",
    b"3\r\nabcd\r\n0\r\n\r\n", b"0\r\nHost: x\r\n\r\n", b"3\nabc\r\n0\r\n\r\n", b"0x3\r\nabc\r\n",
]  # fmt: skip


def plain(draw: random.Random) -> bytes:
    """A request as they usually come."""
    method, fields = draw.choice(METHODS), draw.sample(PLAIN, draw.randrange(5))
    lines = [
        method + b" " + draw.choice(TARGETS) + draw.choice([b" HTTP/1.1"] * 9 + [b" HTTP/1.0"])
    ]
    lines += [b"Host: example.org", *fields]
    body = b""
    if method in (b"POST", b"PUT", b"PATCH") or draw.random() < 0.05:
        body = b"abcdefghij" * draw.choice((0, 1, 1, 1, 20, 200))
        body = body[: draw.randrange(len(body) + 1)]
        lines.insert(draw.randrange(1, len(lines) + 1), b"Content-Length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def odd(draw: random.Random) -> bytes:
    """A request of what is seldom sent."""
    line = draw.choice([*ODD_LINES, b"GET / HTTP/1.1", b"POST /a HTTP/1.1", b"POST / HTTP/1.0"])
    fields = [*draw.choices(ODD, k=draw.randrange(3)), *draw.choices(PLAIN, k=draw.randrange(3))]
    draw.shuffle(fields)
    body = draw.choice([b"", b"", b"abc", *CHUNKED])
    return b"\r\n".join([line, *fields]) + b"\r\n\r\n" + body


def mutated(draw: random.Random, data: bytes) -> bytes:
    """Some bytes put in, taken out or changed."""
    for _ in range(draw.randrange(1, 4)):
        at = draw.randrange(len(data) + 1)
        if draw.random() < 0.3:
            data = data[:at] + data[at + draw.randrange(1, 4) :]
        else:
            data = data[:at] + draw.choice(MUTATIONS) + data[at + draw.randrange(2) :]
    return data


def split(draw: random.Random, data: bytes) -> list[bytes]:
    """The same bytes in pieces, cut anywhere."""
    cuts = sorted(draw.randrange(len(data) + 1) for _ in range(draw.choice((0, 0, 1, 1, 2, 3))))
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def stream(draw: random.Random) -> list[bytes]:
    """What one client sends on a connection, in pieces."""
    kind = draw.random()
    requests = [plain(draw) for _ in range(draw.randrange(1, 5))]
    if kind < 0.25:
        requests.insert(draw.randrange(len(requests) + 1), odd(draw))
    data = b"".join(requests)
    if 0.2 < kind < 0.4:
        data = mutated(draw, data)
    if draw.random() < 0.1:
        data = data[: draw.randrange(len(data) + 1)]
    return split(draw, data)


@st.composite
def streams(draw: st.DrawFn) -> list[bytes]:
    """The same by Hypothesis: it looks for the smallest stream that fails."""
    field = st.sampled_from(PLAIN + ODD) | st.binary(max_size=12)
    line = st.sampled_from(
        [b"GET / HTTP/1.1", b"POST /a?b HTTP/1.1", b"PUT / HTTP/1.0", *ODD_LINES]
    )
    requests = [
        b"\r\n".join([draw(line), *draw(st.lists(field, max_size=4))]) + b"\r\n\r\n"
        + draw(st.sampled_from([b"", b"abc", *CHUNKED]) | st.binary(max_size=8))
        for _ in range(draw(st.integers(1, 3)))
    ]  # fmt: skip
    data = bytearray(b"".join(requests))
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(data) - 1))
        data[at : at + draw(st.integers(0, 2))] = draw(st.sampled_from([*MUTATIONS, b""]))
        data = data or bytearray(b"G")
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=3)))
    return [bytes(data[a:b]) for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
