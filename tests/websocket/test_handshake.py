"""The opening handshake and the check of origins."""

from typing import Any

import pytest

from nti.appserver.errors import ClientError
from nti.appserver.origins import check_origin, is_allowed, own_origin
from nti.appserver.websocket.handshake import (
    choose_subprotocol,
    is_upgrade,
    parse_handshake,
    response,
)

KEY = "dGhlIHNhbXBsZSBub25jZQ=="


def request(**changes: Any) -> dict[str, Any]:
    """A valid request for a WebSocket; None takes a key away."""
    environ = {
        "REQUEST_METHOD": "GET",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": "example.org",
        "HTTP_UPGRADE": "websocket",
        "HTTP_CONNECTION": "keep-alive, Upgrade",
        "HTTP_SEC_WEBSOCKET_KEY": KEY,
        "HTTP_SEC_WEBSOCKET_VERSION": "13",
        "wsgi.url_scheme": "http",
        **changes,
    }
    return {key: value for key, value in environ.items() if value is not None}


def test_the_answer_of_the_rfc() -> None:
    answer = response(parse_handshake(request()), subprotocol="chat")
    assert answer == (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: chat"
        b"\r\n\r\n"
    )


def test_a_header_cannot_smuggle_another() -> None:
    with pytest.raises(ValueError, match="line break"):
        response(parse_handshake(request()), headers=[("Set-Cookie", "a=b\r\nX: y")])


@pytest.mark.parametrize(
    ("changes", "upgrade"),
    [
        ({}, True),
        ({"HTTP_UPGRADE": "WebSocket"}, True),
        ({"HTTP_UPGRADE": "h2c, websocket"}, True),
        ({"HTTP_UPGRADE": "h2c"}, False),
        ({"HTTP_UPGRADE": None}, False),
        ({"HTTP_CONNECTION": "close"}, False),
        ({"HTTP_CONNECTION": None}, False),
    ],
)
def test_what_asks_for_a_websocket(changes: dict[str, Any], upgrade: bool) -> None:
    assert is_upgrade(request(**changes)) is upgrade


@pytest.mark.parametrize(
    ("changes", "status", "detail"),
    [
        ({"REQUEST_METHOD": "POST"}, 400, "saw method POST, expected GET"),
        ({"SERVER_PROTOCOL": "HTTP/1.0"}, 400, "saw HTTP/1.0"),
        ({"HTTP_SEC_WEBSOCKET_VERSION": "8"}, 426, "saw version 8, expected 13"),
        ({"HTTP_SEC_WEBSOCKET_VERSION": None}, 426, "saw version none"),
        ({"HTTP_SEC_WEBSOCKET_KEY": None}, 400, "16 bytes in base64"),
        ({"HTTP_SEC_WEBSOCKET_KEY": "c2hvcnQ="}, 400, "16 bytes in base64"),
        ({"HTTP_SEC_WEBSOCKET_KEY": "é" * 24}, 400, "16 bytes in base64"),
        ({"HTTP_SEC_WEBSOCKET_PROTOCOL": "a," * 100}, 400, "at most 64"),
    ],
)
def test_bad_handshakes(changes: dict[str, Any], status: int, detail: str) -> None:
    with pytest.raises(ClientError, match=detail) as refused:
        parse_handshake(request(**changes))
    assert refused.value.status == status
    if status == 426:
        assert ("Sec-WebSocket-Version", "13") in refused.value.headers


def test_the_servers_favourite_subprotocol_wins() -> None:
    offered = parse_handshake(request(HTTP_SEC_WEBSOCKET_PROTOCOL="one, two")).subprotocols
    assert choose_subprotocol(offered, ("three", "two", "one")) == "two"
    assert choose_subprotocol(offered, ("three",)) is None


# -- origins


@pytest.mark.parametrize(
    ("changes", "own"),
    [
        ({}, "http://example.org"),
        ({"HTTP_HOST": "Example.org:80"}, "http://example.org"),
        ({"HTTP_HOST": "example.org:443"}, "http://example.org:443"),
        ({"HTTP_HOST": "example.org:443", "wsgi.url_scheme": "https"}, "https://example.org"),
        ({"HTTP_HOST": "example.org:8081"}, "http://example.org:8081"),
        ({"HTTP_HOST": None, "SERVER_NAME": "inside"}, "http://inside"),
    ],
)
def test_the_sites_own_origin(changes: dict[str, Any], own: str) -> None:
    assert own_origin(request(**changes)) == own
    assert is_allowed(request(HTTP_ORIGIN=own, **changes), ())


@pytest.mark.parametrize(
    ("origin", "origins", "allowed"),
    [
        (None, (), True),
        ("http://example.org", (), True),
        ("HTTP://EXAMPLE.ORG", (), True),
        ("http://evil.example", (), False),
        ("http://example.org.evil.example", (), False),
        ("null", (), False),
        ("https://partner.example", ("https://partner.example",), True),
        ("http://evil.example", ("*",), True),
    ],
)
def test_who_may_open_one(origin: str | None, origins: tuple[str, ...], allowed: bool) -> None:
    assert is_allowed(request(HTTP_ORIGIN=origin), origins) is allowed


def test_the_error_says_seen_expected_and_setting() -> None:
    with pytest.raises(ClientError) as refused:
        check_origin(request(HTTP_ORIGIN="http://evil.example"), ("http://a.example",))
    detail = refused.value.detail
    assert "saw 'http://evil.example'" in detail
    assert "expected http://example.org or http://a.example" in detail
    assert "setting `origins`" in detail


def test_behind_a_proxy_that_ends_tls_it_names_the_header() -> None:
    with pytest.raises(ClientError, match="X-Forwarded-Proto"):
        check_origin(request(HTTP_ORIGIN="https://example.org"), ())
