"""Who the client is: one source, from trusted peers alone, whatever way a request goes."""

import json

import pytest

from nti.appserver.testing.process import GunicornProcess

from .client import connect
from .conftest import Starter

FORGED = "X-Forwarded-For: 203.0.113.1, 198.51.100.7, 127.0.0.1"
FORWARDED = 'Forwarded: for=203.0.113.1, for="198.51.100.8:1";proto=https, for=127.0.0.1'

#: The common request, and one that only gunicorn's parser takes.
WAYS = ((), ("Transfer-Encoding: chunked",))


def described(server: GunicornProcess, *fields: str) -> dict[str, str]:
    """What the application sees; the same by both ways."""
    seen = []
    for way in WAYS:
        with connect(server) as client:
            head = "\r\n".join(["POST /describe HTTP/1.1", "Host: a", *fields, *way, "", ""])
            client.send(head.encode() + (b"0\r\n\r\n" if way else b""))
            seen.append(json.loads(client.answer().body))
        assert seen[-1].pop("HTTP_TRANSFER_ENCODING", "chunked") == "chunked"
        assert seen[-1].pop("peer")[0] == "127.0.0.1"
        seen[-1].pop("nti.appserver.request_id", None)
        seen[-1].pop("REMOTE_PORT", None)
    assert seen[0] == seen[1]
    return dict(seen[0])


def test_x_forwarded_for(server: GunicornProcess) -> None:
    said = described(server, FORGED, FORWARDED, "X-Forwarded-Proto: https")
    assert said["REMOTE_ADDR"] == "198.51.100.7"
    assert said["wsgi.url_scheme"] == "https"
    said = described(server, FORWARDED)
    assert (said["REMOTE_ADDR"], said["wsgi.url_scheme"]) == ("127.0.0.1", "http")


def test_forwarded(start: Starter) -> None:
    server = start(client_source="forwarded").wait_until_serving()
    said = described(server, FORGED, FORWARDED)
    assert (said["REMOTE_ADDR"], said["wsgi.url_scheme"]) == ("198.51.100.8", "https")
    said = described(server, FORGED, "X-Forwarded-Proto: https")
    assert (said["REMOTE_ADDR"], said["wsgi.url_scheme"]) == ("127.0.0.1", "http")


def test_proxy_protocol(start: Starter) -> None:
    server = start("--proxy-protocol", "v1", client_source="proxy")
    server.wait_for_output("Serving ")
    with connect(server) as client:
        client.send(b"PROXY TCP4 198.51.100.9 192.0.2.1 4000 80\r\n")
        for _ in range(2):
            said = json.loads(client.ask("/describe", FORGED, FORWARDED).body)
            assert (said["REMOTE_ADDR"], said["REMOTE_PORT"]) == ("198.51.100.9", "4000")
            assert said["wsgi.url_scheme"] == "http"
            assert said["peer"][0] == "127.0.0.1"


@pytest.mark.parametrize("source", ["x-forwarded-for", "forwarded"])
def test_strangers_are_not_believed(start: Starter, source: str) -> None:
    server = start("--forwarded-allow-ips", "192.0.2.1", client_source=source)
    server.wait_for_output("Serving ")
    said = described(server, FORGED, FORWARDED, "X-Forwarded-Proto: https")
    assert (said["REMOTE_ADDR"], said["wsgi.url_scheme"]) == ("127.0.0.1", "http")
