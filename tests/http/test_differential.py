"""Byte for byte what gunicorn's own worker would do, whatever is sent and however it is cut."""

import logging
import random
from pathlib import Path

import pytest
from gunicorn.config import Config
from hypothesis import HealthCheck, given, settings

from tests.http.corpus import cases
from tests.http.differential import CONFIGURATIONS, PROXY, STRANGER, Both, Pieces, Theirs
from tests.http.generated import split, stream, streams


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "gunicorn.http.wsgi")


def test_gunicorn_corpus(tmp_path: Path) -> None:
    """Whole, byte by byte, cut once anywhere near its start, with another request behind it."""
    draw, count, fast = random.Random(1), 0, 0
    for case in cases(tmp_path):
        both = Both(case.cfg)
        data = case.data
        ways: list[Pieces] = [[data], [data[i : i + 1] for i in range(min(len(data), 4000))]]
        ways += [[data[:cut], data[cut:]] for cut in range(min(len(data), 25))]
        ways += [split(draw, data + b"GET /behind HTTP/1.1\r\nHost: a\r\n\r\n") for _ in range(3)]
        for pieces in ways:
            for peer in (PROXY, STRANGER):
                assert both.difference(pieces, peer) == "", case.name
        count += 1
        fast += both.fast > 0
    assert count > 100
    assert fast > 25, "the fast path took next to nothing: the comparison means little"


@pytest.mark.parametrize("values", CONFIGURATIONS)
def test_generated(values: dict[str, object]) -> None:
    draw, both = random.Random(7), Both(**values)
    for _ in range(1500):
        assert both.difference(stream(draw), draw.choice((PROXY, STRANGER))) == ""
    assert both.fast > 500, "the fast path took too little: the comparison means little"


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(pieces=streams())
def test_hypothesis(pieces: list[bytes]) -> None:
    for both in _all():
        for peer in (PROXY, STRANGER):
            assert both.difference(pieces, peer) == ""


_made: list[Both] = []


def _all() -> list[Both]:
    if not _made:
        _made.extend(Both(**values) for values in CONFIGURATIONS)
    return _made


V2 = b"\r\n\r\n\0\r\nQUIT\n"
PROXY_HEADERS = [
    b"PROXY TCP4 198.51.100.9 192.0.2.1 4000 80\r\n",
    b"PROXY TCP6 2001:db8::9 2001:db8::1 4000 80\r\n",
    b"PROXY UNKNOWN\r\n",
    b"PROXY TCP4 198.51.100.9 192.0.2.1 4000\r\n",
    b"PROXY TCP4 198.51.100.999 192.0.2.1 4000 80\r\n",
    b"PROXY " + b"x" * 200 + b"\r\n",
    V2 + b"\x21\x11\0\x0c" + bytes((198, 51, 100, 9, 192, 0, 2, 1)) + b"\x0f\xa0\0\x50",
    V2 + b"\x21\x21\0\x24" + bytes(range(32)) + b"\x0f\xa0\0\x50",
    V2 + b"\x21\x11\0\x05short",
    V2 + b"\x31\x11\0\x0c" + bytes(12),
    b"",
]


@pytest.mark.parametrize("mode", ["v1", "v2", "auto"])
def test_proxy_protocol(mode: str) -> None:
    """Read before the first request alone, from allowed peers alone; it holds for the next ones."""
    draw, both = random.Random(3), Both(proxy_protocol=mode)
    for header in PROXY_HEADERS:
        for peer in (PROXY, STRANGER):
            data = header + b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n" * 2 + header
            assert both.difference([data], peer) == ""
            assert both.difference([data[i : i + 1] for i in range(len(data))], peer) == ""
            for _ in range(10):
                pieces = split(draw, header + b"".join(stream(draw)))
                assert both.difference(pieces, peer) == ""
    assert both.fast > 30


def test_a_proxy_that_asks_for_itself_is_the_client() -> None:
    """Unlike gunicorn, which puts None into environ, where every value is a text."""
    both = Both(proxy_protocol="auto")
    asks = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 2
    for header in (V2 + b"\x20\0\0\0", V2 + b"\x21\x01\0\0"):
        seen, _ = both.ours.serve([header + asks], PROXY)
        assert [(said["REMOTE_ADDR"], said["REMOTE_PORT"]) for said, _ in seen] == [
            (PROXY[0], str(PROXY[1]))
        ] * 2
        assert both.theirs.serve([header + asks], PROXY)[0][0][0]["REMOTE_ADDR"] is None


def uwsgi(variables: dict[str, str], body: bytes = b"") -> bytes:
    block = b"".join(
        len(text).to_bytes(2, "little") + text.encode()
        for pair in variables.items()
        for text in pair
    )
    return b"\0" + len(block).to_bytes(2, "little") + b"\0" + block + body


def test_uwsgi_protocol() -> None:
    """gunicorn's own parser reads it, on every connection and each request."""
    draw, both = random.Random(4), Both(protocol="uwsgi")
    get = {"REQUEST_METHOD": "GET", "PATH_INFO": "/a", "QUERY_STRING": "b", "HTTP_HOST": "a"}
    post = {**get, "REQUEST_METHOD": "POST", "CONTENT_LENGTH": "3", "CONTENT_TYPE": "text/plain"}
    for data in (
        uwsgi(get), uwsgi(get) + uwsgi(post, b"abc"), uwsgi(post, b"ab"), b"\5\0\0\0",
        uwsgi({}), b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    ):  # fmt: skip
        for pieces in [[data], [data[i : i + 1] for i in range(len(data))], split(draw, data)]:
            for peer in (PROXY, STRANGER):
                assert both.difference(pieces, peer) == ""
    assert both.ours.serve([uwsgi(get)], PROXY)[0][0][0]["PATH_INFO"] == "/a"


def test_it_would_notice() -> None:
    """The comparison fails where ours is made to differ."""
    both = Both()
    assert both.difference([b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"], PROXY) == ""
    both.ours.listener._template["SERVER_SOFTWARE"] = "another"
    assert "SERVER_SOFTWARE" in both.difference([b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"], PROXY)
    both = Both(forwarded_allow_ips="192.0.2.1")
    both.theirs = Theirs(Config(), both.ours.name)
    secure = b"GET / HTTP/1.1\r\nX-Forwarded-Proto: https\r\n\r\n"
    assert "wsgi.url_scheme" in both.difference([secure], PROXY)
