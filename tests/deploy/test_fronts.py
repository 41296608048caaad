"""The same questions to every front: what reaches the application, and what does not."""

import contextlib
import json

import pytest

from nti.appserver.testing.process import wait_until
from tests.deploy.conftest import fronts
from tests.deploy.fronts import CLIENT, Front
from tests.deploy.site import POLICY

#: What a client may claim of itself, each believed by some server.
FORGED = {
    "X-Forwarded-For": "6.6.6.6",
    "X-Forwarded-Host": "evil",
    "X-Forwarded-Port": "666",
    "X-Forwarded-Prefix": "/evil",
    "X-Forwarded-Ssl": "on",
    "X-Forwarded-Protocol": "ssl",
    "X-Real-IP": "6.6.6.6",
    "Forwarded": "for=6.6.6.6;proto=https;host=evil",
    "X-Scheme": "gopher",
    "SCRIPT_NAME": "/evil",
    "PATH_INFO": "/_ops/metrics",
    "X_Forwarded_For": "6.6.6.6",
    "REMOTE_ADDR": "6.6.6.6",
    "X-Request-ID": "mine",
}


@fronts()
def test_the_client_is_named_and_cannot_forge_itself(front: Front) -> None:
    scheme = "https" if front.kind.tls else "http"
    found = front.seen({**FORGED, "X-Forwarded-Proto": "http" if front.kind.tls else "https"})
    assert found["REMOTE_ADDR"] == CLIENT
    assert found["wsgi.url_scheme"] == scheme
    assert (found["SCRIPT_NAME"], found["PATH_INFO"]) == ("", "/dataserver2/x")


@fronts(lambda kind: kind.files)
def test_what_the_client_claims_is_gone(front: Front) -> None:
    found = front.seen(FORGED)
    assert not set(FORGED.values()) & set(found.values())
    assert found["HTTP_X_FORWARDED_FOR"] == CLIENT


@fronts()
@pytest.mark.parametrize("name", ["X-Forwarded-For", "x-forwarded-for", "X-FORWARDED-FOR"])
def test_a_claim_in_several_lines_is_not_believed_either(front: Front, name: str) -> None:
    claims = "".join(f"{name}: {claim}\r\n" for claim in ("6.6.6.6", "7.7.7.7, 8.8.8.8", "::1", ""))
    answer = front.raw(
        f"GET /dataserver2/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{claims}\r\n".encode()
    )
    assert f'"REMOTE_ADDR": "{CLIENT}"'.encode() in answer, answer
    if front.kind.files:
        assert f'"HTTP_X_FORWARDED_FOR": "{CLIENT}"'.encode() in answer, answer


@fronts()
def test_the_host_arrives_as_the_client_wrote_it(front: Front) -> None:
    assert front.seen({"Host": "books.example:81"})["HTTP_HOST"] == "books.example:81"


@fronts()
def test_a_body_in_chunks_arrives_whole(front: Front) -> None:
    pieces = [b"%06d," % number + b"x" * 1000 for number in range(100)]
    assert front.seen(body=iter(pieces))["body"] == b"".join(pieces).decode()


@fronts()
@pytest.mark.parametrize(
    "path",
    [
        "/_ops/metrics",
        "/_ops/ping",
        "/_ops/ready",
        "/_ops",
        "/%5Fops/metrics",
        "//_ops/ping",
        "/./_ops/ping",
        "/dataserver2/../_ops/metrics",
        "/dataserver2/%2e%2e/_ops/metrics",
        "http://127.0.0.1/_ops/metrics",
    ],
)
def test_operations_stay_inside(front: Front, path: str) -> None:
    lines = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    answer = front.raw(lines.encode() + b"X-Forwarded-For: 127.0.0.1\r\n\r\n")
    assert answer.split()[1] in (b"400", b"403", b"404") or b'"PATH_INFO"' in answer, answer
    assert not any(word in answer for word in (b"appserver_", b"pong", b"ready"))


@fronts(lambda kind: kind.files)
def test_operations_are_not_told_to_be_there(front: Front) -> None:
    for path in ("/_ops/metrics", "/_ops/ping", "/%5Fops/metrics", "//_ops/ping"):
        assert front.ask(path)[0].status == 404


@fronts(lambda kind: kind.files)
@pytest.mark.parametrize("path", ["/.secret", "/.git/config", "/guide/.htaccess", "/%2esecret"])
def test_dotfiles_are_hidden(front: Front, path: str) -> None:
    response, body = front.ask(path)
    assert (response.status, b"secret" in body) == (404, False)


@fronts(lambda kind: kind.files)
def test_files_and_folders_are_served(front: Front) -> None:
    assert front.ask("/style.css")[1].startswith(b"a { color")
    assert front.ask("/guide/")[1] == b"the guide"
    moved, _ = front.ask("/guide")
    assert (moved.status, moved.headers["Location"]) == (301, "/guide/")
    assert front.ask("/.well-known/security.txt")[1] == b"Contact: us"


@fronts(lambda kind: kind.files)
def test_a_file_is_compressed_and_expires(front: Front) -> None:
    response, body = front.ask("/style.css", {"Accept-Encoding": "gzip"})
    assert response.headers["Content-Encoding"] == "gzip"
    assert body.startswith(b"\x1f\x8b")
    assert "Accept-Encoding" in response.headers["Vary"]
    assert "max-age=2592000" in response.headers["Cache-Control"]
    plain, _ = front.ask("/style.css")
    assert plain.headers["Content-Encoding"] is None
    assert "Accept-Encoding" in plain.headers["Vary"]


@fronts()
def test_an_answer_of_the_application_is_neither_compressed_nor_given_an_expiry(
    front: Front,
) -> None:
    for path in ("/dataserver2/x", "/library/page.html", "/unit/Search/term"):
        response, body = front.ask(path, {"Accept-Encoding": "gzip"})
        assert json.loads(body)["PATH_INFO"] == path
        assert not {"Content-Encoding", "Expires", "Cache-Control"} & set(response.headers)


@fronts(lambda kind: kind.files)
def test_what_is_no_file_goes_where_the_variant_says(front: Front) -> None:
    response, _ = front.ask("/nothing-here")
    assert response.status == (200 if front.kind.catches else 404)


@fronts(lambda kind: kind.files)
@pytest.mark.parametrize(
    "path",
    [
        "/library/page.html",
        "/%6cibrary/page.html",
        "//library/page.html",
        "/x/../library/page.html",
    ],
)
def test_a_library_page_never_comes_without_its_policy(front: Front, path: str) -> None:
    answer = front.raw(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    assert b"without a policy" not in answer
    if path == "/library/page.html":
        assert f"Content-Security-Policy: {POLICY}".lower().encode() in answer.lower()


@fronts()
def test_only_a_websocket_is_upgraded(front: Front) -> None:
    found = front.seen(
        {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAA"}
    )
    if front.kind.files:
        assert not {"HTTP_UPGRADE", "HTTP_HTTP2_SETTINGS"} & set(found)


@fronts()
def test_a_websocket_goes_through(front: Front) -> None:
    with front.websocket() as websocket:
        for message in ("small", "x" * 70_000, b"\0" * 70_000):
            websocket.send(message)
            assert websocket.receive() == message


@fronts()
@pytest.mark.parametrize("transport", ["polling", "upgrade", "websocket"])
def test_socketio_goes_through(front: Front, transport: str) -> None:
    with front.socketio(transport) as client:
        client.emit("say", "hello")
        assert client.wait_for("said") == ("hello",)
        assert client.transport == transport.replace("upgrade", "websocket")


@fronts(lambda kind: kind.streams)
def test_a_streamed_response_comes_as_it_is_made(front: Front) -> None:
    with contextlib.closing(front.connection()) as connection:
        connection.request("GET", "/dataserver2/stream")
        response = connection.getresponse()
        assert response.read(5) == b"first"
        assert front.ask("/dataserver2/go")[0].status == 200
        assert response.read() == b"second"


@fronts(lambda kind: kind.app == ("tcp",))
def test_connections_to_the_application_are_used_again(front: Front) -> None:
    with contextlib.closing(front.connection()) as connection:
        peers = set()
        for _ in range(5):
            connection.request("GET", "/dataserver2/x")
            peers.add(json.loads(connection.getresponse().read())["peer"])
    # HAProxy takes any of the idle ones; the fifth needs no new one.
    assert len(peers) < 5


@fronts(lambda kind: kind.name.startswith(("nginx", "haproxy")))
def test_one_request_id_in_every_log(front: Front) -> None:
    response, body = front.ask("/dataserver2/x")
    found = json.loads(body)["HTTP_X_REQUEST_ID"]
    assert response.headers["X-Request-ID"] == found
    nginx = front.folder / "nginx/access.log"
    log = nginx if nginx.exists() else front.folder / "haproxy/server.log"
    wait_until(lambda: f"id={found}" in log.read_text(), "the front has logged the request")
