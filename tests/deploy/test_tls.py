"""Where a front ends TLS: which versions, and where plain HTTP goes."""

import contextlib
import socket
import ssl
import warnings
from pathlib import Path

import pytest

from nti.appserver.testing.process import wait_until
from tests.deploy import programs
from tests.deploy.conftest import fronts
from tests.deploy.fronts import Front

tls = fronts(lambda kind: kind.tls)


def shake(front: Front, version: ssl.TLSVersion, *protocols: str) -> ssl.SSLSocket:
    """A handshake with this version alone."""
    context = front.site.context
    # OpenSSL's own policy would otherwise refuse old versions before the front does.
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = version
    if protocols:
        context.set_alpn_protocols(list(protocols))
    plain = socket.create_connection(("127.0.0.1", front.port), 20)
    return context.wrap_socket(plain, server_hostname="127.0.0.1")


@tls
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_today_s_versions_are_spoken(front: Front, version: ssl.TLSVersion) -> None:
    with shake(front, version) as connection:
        assert connection.version() == version.name.replace("_", ".")


@tls
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_old_versions_are_refused(front: Front, version: ssl.TLSVersion) -> None:
    with pytest.raises((ssl.SSLError, ConnectionError), match=r"(?i)alert|reset|eof|version"):
        shake(front, version)


@tls
def test_plain_http_says_where_to_go(front: Front) -> None:
    with contextlib.closing(socket.create_connection(("127.0.0.1", front.plain), 20)) as plain:
        plain.sendall(b"GET /a?b=c HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answer = plain.recv(65536).decode()
    assert answer.split()[1] == "301", answer
    location = next(x for x in answer.splitlines() if x.lower().startswith("location:"))
    assert location.split()[1].startswith("https://localhost")
    assert location.endswith("/a?b=c")


@tls
def test_browsers_are_told_to_stay_with_tls(front: Front) -> None:
    for path in ("/style.css", "/dataserver2/x", "/nothing-here", "/_ops/ping"):
        assert front.ask(path)[0].headers["Strict-Transport-Security"] == "max-age=31536000", path


@fronts(lambda kind: kind.http2)
def test_http2_is_offered_to_browsers(front: Front) -> None:
    with shake(front, ssl.TLSVersion.TLSv1_3, "h2", "http/1.1") as connection:
        assert connection.selected_alpn_protocol() == "h2"


@fronts(lambda kind: kind.http2)
def test_http2_becomes_http1_behind(front: Front) -> None:
    curl = programs.need("curl")
    command = (curl, "--http2", "-sS", "--cacert", front.site.tls["certificate"], "-w")
    done = programs.run(*command, "\n%{http_version}", f"{front.url}/dataserver2/x")
    body, _, version = done.stdout.rpartition("\n")
    assert version == "2", done.stderr
    assert '"SERVER_PROTOCOL": "HTTP/1.1"' in body


@fronts(lambda kind: kind.name in ("nginx complete", "haproxy tls"))
def test_a_browser_s_websocket_beside_http2(front: Front, tmp_path: Path) -> None:
    """With HAProxy it is a stream of the HTTP/2 connection (RFC 8441), which becomes an upgrade."""
    command = (
        *(programs.need("chromium"), "--headless=new", "--no-sandbox", "--disable-gpu"),
        *("--disable-dev-shm-usage", "--ignore-certificate-errors", f"--user-data-dir={tmp_path}"),
        *("--virtual-time-budget=10000", "--dump-dom", f"{front.url}/websocket.html"),
    )
    # Chromium's clock runs ahead of the network where the machine is busy: then it looks too early.
    wait_until(
        lambda: "echo of a page that came by h2" in programs.run(*command).stdout,
        "the page has the answer of its WebSocket",
        seconds=90,
    )
    log = front.folder / "haproxy/server.log"
    if log.exists():
        wait_until(lambda: "/dataserver2/socket HTTP/2.0" in log.read_text(), "HAProxy logs it")
