"""The same questions to every front, asked of the real programs on loopback."""

import contextlib
import json
import os
import shutil
import socket
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

import pytest

from nti.appserver.deploy.render import render
from nti.appserver.testing.process import GunicornProcess, ServerProcess, free_port, wait_until
from nti.appserver.testing.websocket import WebSocket

#: The client comes from here, so that it cannot be taken for a proxy.
CLIENT = "127.0.0.9"


@pytest.fixture(scope="module", autouse=True)
def programs() -> None:
    """Skip where a front is missing; fail where REQUIRE_PROXIES says that none may be."""
    missing = [name for name in ("nginx", "haproxy") if shutil.which(name) is None]
    if missing and os.environ.get("REQUIRE_PROXIES") == "1":
        pytest.fail(f"not installed: {', '.join(missing)}")
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")


def nginx(folder: Path, variant: str, **options: object) -> ServerProcess:
    folder.mkdir()
    text = render("nginx", variant, nginx_log=f"{folder}/access.log", **options)
    (folder / "site.conf").write_text(text["nti-appserver.conf"])
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
    (folder / "nginx.conf").write_text(
        f"user root; daemon off; pid {folder}/pid; events {{}}"
        f"http {{ types {{ text/css css; }} {paths} include {folder}/site.conf; }}"
    )
    return ServerProcess(
        ["nginx", "-e", "stderr", "-p", str(folder), "-c", f"{folder}/nginx.conf"], cwd=folder
    )


def haproxy(folder: Path, **options: object) -> ServerProcess:
    folder.mkdir()
    (folder / "haproxy.cfg").write_text(render("haproxy", "plain", **options)["haproxy.cfg"])
    return ServerProcess(["haproxy", "-db", "-f", f"{folder}/haproxy.cfg"], cwd=folder)


def listening(port: int) -> bool:
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    return False


@pytest.fixture(scope="module", params=["nginx implicit", "nginx explicit", "haproxy"])
def port(
    request: pytest.FixtureRequest, programs: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[int]:
    folder = tmp_path_factory.mktemp("front")
    root = folder / "www"
    (root / "library").mkdir(parents=True)
    (root / "style.css").write_text("a { color: red }\n" * 100)
    (root / "library/page.html").write_text("without a policy")
    (root / ".secret").write_text("secret")
    front, static = free_port(), free_port()
    here = f"127.0.0.1:{front}"
    with contextlib.ExitStack() as stack:
        server = GunicornProcess(
            "echo:app",
            "--pythonpath",
            str(Path(__file__).parent),
            cwd=folder,
        )
        stack.enter_context(server).wait_until_serving()
        app = f"127.0.0.1:{server.port}"
        if request.param == "haproxy":
            beside = f"127.0.0.1:{static}"
            stack.enter_context(nginx(folder / "nginx", "static", static=beside, root=root))
            stack.enter_context(
                haproxy(folder / "haproxy", http=here, static=beside, app=app, connections=200)
            )
            wait_until(lambda: listening(static), "nginx listens")
        else:
            variant = request.param.split()[1]
            stack.enter_context(nginx(folder / "nginx", variant, http=here, app=app, root=root))
        wait_until(lambda: listening(front), "the front listens")
        yield front


def ask(port: int, path: str, method: str = "GET", **headers: str) -> tuple[HTTPResponse, bytes]:
    connection = HTTPConnection("127.0.0.1", port, timeout=20, source_address=(CLIENT, 0))
    names = {
        name.replace("__", "_") if "__" in name else name.replace("_", "-"): value
        for name, value in headers.items()
    }
    with contextlib.closing(connection):
        body = iter([b"one", b"two"]) if method == "POST" else None
        connection.request(method, path, body, names, encode_chunked=method == "POST")
        response = connection.getresponse()
        return response, response.read()


def seen(port: int, method: str = "GET", **headers: str) -> dict[str, Any]:
    if method == "POST":
        headers["Transfer_Encoding"] = "chunked"
    response, body = ask(port, "/dataserver2/x", method, **headers)
    assert response.status == 200
    found: dict[str, Any] = json.loads(body)
    return found


def test_the_client_is_named_and_cannot_forge_itself(port: int) -> None:
    forged = {
        "X_Forwarded_For": "6.6.6.6",
        "X_Forwarded_Host": "evil",
        "X_Real_IP": "6.6.6.6",
        "Forwarded": "for=6.6.6.6",
        "X_Scheme": "https",
        "X_Forwarded_Ssl": "on",
        "X_Forwarded_Proto": "https",
        "SCRIPT__NAME": "/evil",
        "PATH__INFO": "/_ops/metrics",
        "X_Request_ID": "mine",
    }
    found = seen(port, **forged)
    assert found["REMOTE_ADDR"] == CLIENT
    assert found["wsgi.url_scheme"] == "http"
    assert (found["SCRIPT_NAME"], found["PATH_INFO"]) == ("", "/dataserver2/x")
    assert found["HTTP_X_REQUEST_ID"] != "mine"
    assert not {"6.6.6.6", "evil", "for=6.6.6.6", "on"} & set(found.values())


def test_host_and_a_chunked_body_arrive(port: int) -> None:
    assert seen(port, Host="books.example:81")["HTTP_HOST"] == "books.example:81"
    assert seen(port, "POST")["body"] == "onetwo"


@pytest.mark.parametrize("path", ["/_ops/metrics", "/%5Fops/metrics", "//_ops/ping", "/.secret"])
def test_the_inside_stays_inside(port: int, path: str) -> None:
    assert ask(port, path)[0].status == 404


def test_a_library_page_never_comes_from_the_folder(port: int) -> None:
    for path in ("/library/page.html", "/%6cibrary/page.html", "//library/page.html"):
        assert b"without a policy" not in ask(port, path)[1]


def test_files_are_compressed_and_expire_and_answers_of_the_application_do_not(port: int) -> None:
    response, _ = ask(port, "/style.css", Accept_Encoding="gzip")
    assert response.headers["Content-Encoding"] == "gzip"
    assert "Accept-Encoding" in response.headers["Vary"]
    assert "Expires" in response.headers
    response, _ = ask(port, "/dataserver2/x", Accept_Encoding="gzip")
    assert not {"Content-Encoding", "Expires"} & set(response.headers)


def test_an_upgrade_to_h2c_is_not_passed_on(port: int) -> None:
    found = seen(port, Connection="Upgrade, HTTP2-Settings", Upgrade="h2c", HTTP2_Settings="AAMAAA")
    assert "HTTP_UPGRADE" not in found


def test_a_streamed_response_comes_as_it_is_made(port: int) -> None:
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    with contextlib.closing(connection):
        connection.request("GET", "/dataserver2/stream")
        response = connection.getresponse()
        assert response.read(5) == b"first"
        assert ask(port, "/dataserver2/go")[0].status == 200
        assert response.read() == b"second"


def test_a_websocket_goes_through(port: int) -> None:
    with WebSocket(f"ws://127.0.0.1:{port}/dataserver2/socket") as websocket:
        for message in ("small", "x" * 70_000):
            websocket.send(message)
            assert websocket.receive() == message
