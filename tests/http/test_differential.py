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
