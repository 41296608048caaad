"""Who the client is: one source, from trusted peers alone, whatever way a request goes."""

import json

import pytest
from gunicorn.config import Config

from nti.appserver.http.client import ClientSource, Trust
from nti.appserver.testing.process import GunicornProcess

from .client import connect
from .conftest import Starter

FORGED = "X-Forwarded-For: 203.0.113.1, 198.51.100.7, 127.0.0.1"
FORWARDED = 'Forwarded: for=203.0.113.1, for="198.51.100.8:1";proto=https, for=127.0.0.1'

#: The common request, and one that only gunicorn's parser takes.
WAYS = ((), ("Transfer-Encoding: chunked",))


def described(server: GunicornProcess, *fields: str, path: str = "/describe") -> dict[str, str]:
    """What the application sees; the same by both ways."""
    seen = []
    for way in WAYS:
        with connect(server) as client:
            head = "\r\n".join([f"POST {path} HTTP/1.1", "Host: a", *fields, *way, "", ""])
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


def test_proxy_protocol_that_is_off_is_told(start: Starter) -> None:
    server = start(client_source="proxy")
    server.wait_for_output("gunicorn's proxy_protocol is off")
    said = described(server, FORGED, FORWARDED, "X-Forwarded-Proto: https")
    assert (said["REMOTE_ADDR"], said["wsgi.url_scheme"]) == ("127.0.0.1", "http")


@pytest.mark.parametrize("source", ["x-forwarded-for", "forwarded"])
def test_strangers_are_not_believed(start: Starter, source: str) -> None:
    server = start("--forwarded-allow-ips", "192.0.2.1", client_source=source)
    server.wait_for_output("Serving ")
    said = described(server, FORGED, FORWARDED, "X-Forwarded-Proto: https")
    assert (said["REMOTE_ADDR"], said["wsgi.url_scheme"]) == ("127.0.0.1", "http")


def test_what_clients_add_changes_nothing(server: GunicornProcess) -> None:
    """The proxy's address is the right-most of the right-most line; other names are not read."""
    chosen = "X-Forwarded-For: 198.51.100.7"
    for forged in (
        ["X-Forwarded-For: 203.0.113.1", chosen],
        ["X-Forwarded-For: 127.0.0.1", chosen],
        ["X-Forwarded-For: 203.0.113.1, [::1", chosen],
        [chosen, "X_Forwarded_For: 203.0.113.1"],
        [chosen, "X-Real-IP: 203.0.113.1", "Forwarded: for=203.0.113.1;proto=https"],
        [chosen, "X-Client-IP: 203.0.113.1", "X-Scheme: https", "X-Forwarded: for=203.0.113.1"],
    ):
        said = described(server, *forged)
        assert (said["REMOTE_ADDR"], said["wsgi.url_scheme"]) == ("198.51.100.7", "http"), forged


@pytest.mark.parametrize(
    ("value", "client"),
    [
        ("203.0.113.1, 198.51.100.7:4000", "198.51.100.7"),
        ("203.0.113.1, [2001:db8::7]:4000", "2001:db8::7"),
        ("203.0.113.1, 2001:DB8::7", "2001:db8::7"),
        ("203.0.113.1, unknown", "127.0.0.1"),
        ("203.0.113.1,", "127.0.0.1"),
        ("::ffff:198.51.100.7, 127.0.0.1, ::ffff:127.0.0.1", "198.51.100.7"),
        ("127.0.0.1", "127.0.0.1"),
    ],
)
def test_addresses(server: GunicornProcess, value: str, client: str) -> None:
    """An address that cannot be read ends what can be trusted."""
    assert described(server, f"X-Forwarded-For: {value}")["REMOTE_ADDR"] == client


def test_the_mount_point_is_named_by_nobody(server: GunicornProcess, start: Starter) -> None:
    """Unlike gunicorn by default: rules of a proxy see another path than the application."""
    mount = ("SCRIPT_NAME: /des", "PATH_INFO: /_ops/metrics")
    said = described(server, *mount)
    assert (said["SCRIPT_NAME"], said["PATH_INFO"]) == ("", "/describe")
    assert "HTTP_PATH_INFO" not in said
    allowing = start("--forwarder-headers", "SCRIPT_NAME").wait_until_serving()
    said = described(allowing, "SCRIPT_NAME: /mount", path="/mount/describe")
    assert (said["SCRIPT_NAME"], said["PATH_INFO"]) == ("/mount", "/describe")


def applied(source: str, allow: str, value: str) -> tuple[str, str]:
    """REMOTE_ADDR and scheme that a header's value gives, where it is read."""
    cfg = Config()
    cfg.set("forwarded_allow_ips", allow)
    made = ClientSource(source, Trust(cfg))
    environ = {made.key: value, "REMOTE_ADDR": "peer", "wsgi.url_scheme": "http"}
    made.apply(environ)
    made.apply(environ)  # the second time from what is remembered
    return environ["REMOTE_ADDR"], environ["wsgi.url_scheme"]


@pytest.mark.parametrize(
    ("value", "client", "scheme"),
    [
        ("for=198.51.100.7", "198.51.100.7", "http"),
        ("For=198.51.100.7;Proto=HTTPS;by=127.0.0.1;host=h", "198.51.100.7", "https"),
        ('for="[2001:db8::7]:4711";proto=https', "2001:db8::7", "https"),
        ("for=203.0.113.1;proto=https, for=198.51.100.7;proto=http", "198.51.100.7", "http"),
        ("for=198.51.100.7;proto=https, for=127.0.0.1;proto=http", "198.51.100.7", "https"),
        ("for=198.51.100.7, for=unknown", "peer", "http"),
        ("for=198.51.100.7, for=_hidden;proto=https", "peer", "http"),
        ('for="198.51.100.7', "peer", "http"),
        ('for="a, for=198.51.100.7"', "peer", "http"),
        ("for=203.0.113.1;for=198.51.100.7", "peer", "http"),
        ("for=198.51.100.7;proto=gopher", "198.51.100.7", "http"),
        ("proto=https", "peer", "http"),
        ("", "peer", "http"),
    ],
)
def test_forwarded_elements(value: str, client: str, scheme: str) -> None:
    assert applied("forwarded", "127.0.0.1", value) == (client, scheme)


def test_where_everyone_is_trusted_the_right_most_counts() -> None:
    value = "203.0.113.1, 198.51.100.7"
    assert applied("x-forwarded-for", "*", value)[0] == "198.51.100.7"
    assert applied("x-forwarded-for", "198.51.100.0/24", value)[0] == "203.0.113.1"


def test_none_reads_nothing() -> None:
    said = {"HTTP_X_FORWARDED_FOR": "198.51.100.7", "HTTP_FORWARDED": "for=198.51.100.7"}
    environ = dict(said)
    ClientSource("none", Trust(Config())).apply(environ)
    assert environ == said
