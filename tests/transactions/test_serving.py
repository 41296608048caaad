"""Units of work of a real server: what its clients see of them."""

import http.client
import json
import select
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from nti.appserver.testing.process import GunicornProcess, wait_until
from nti.appserver.testing.socketio import Event, SocketIO
from nti.appserver.testing.websocket import WebSocket

ROOT = Path(__file__).parents[2]
APP = "nti.appserver.gunicorn:app"


def served(folder: Path, application: str, *options: str, **settings: str) -> GunicornProcess:
    """gunicorn with our chain around an application; not started yet."""
    environ = {f"NTI_APPSERVER_{name.upper()}": value for name, value in settings.items()}
    environ["NTI_APPSERVER_APPLICATION"] = application
    return GunicornProcess(APP, "--pythonpath", str(ROOT), *options, cwd=folder, environ=environ)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GunicornProcess]:
    """One worker that serves tests/transactions/apps.py over a FileStorage."""
    folder = tmp_path_factory.mktemp("site")
    with served(folder, "tests.transactions.apps:main", storage=f"file://{folder}/data.fs") as site:
        yield site.wait_until_serving()


def call(site: GunicornProcess, method: str, path: str) -> tuple[int, Any, bytes]:
    """The status, the headers and the body of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=30)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def seen(site: GunicornProcess, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(call(site, "GET", f"/seen/{name}")[2])
    return found


def send(site: GunicornProcess, method: str, path: str) -> socket.socket:
    """A connection on which a request was sent."""
    connected = socket.create_connection(("127.0.0.1", site.port), 30)
    connected.sendall(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    return connected


def test_the_commit_happens_before_the_first_byte_of_a_buffered_response(
    site: GunicornProcess,
) -> None:
    with send(site, "POST", "/write/first-byte?waits=tpc_vote") as client:
        wait_until(lambda: seen(site, "first-byte")["waits"], "it votes")
        assert not select.select([client], [], [], 0.2)[0], "sent before the commit"
        assert seen(site, "first-byte")["stored"] is None
        call(site, "POST", "/go_on/first-byte")
        assert client.recv(12) == b"HTTP/1.1 200"
        assert seen(site, "first-byte")["stored"] == 1


@pytest.mark.parametrize("phase", ["tpc_begin", "tpc_vote", "tpc_finish"])
def test_a_client_that_has_gone_does_not_stop_a_commit(site: GunicornProcess, phase: str) -> None:
    name = f"gone-{phase}"
    with send(site, "POST", f"/write/{name}?waits={phase}") as client:
        wait_until(lambda: seen(site, name)["waits"], "it commits")
        # An end by reset, which a server notices soonest.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    assert seen(site, name)["stored"] is None
    call(site, "POST", f"/go_on/{name}")
    wait_until(lambda: seen(site, name)["stored"] == 1, "it is stored")
    wait_until(lambda: seen(site, name)["leased"] == 0, "the lease comes back")


def test_a_commit_error_is_a_clean_500(site: GunicornProcess) -> None:
    status, headers, body = call(site, "POST", "/write/error?fails=error")
    assert status == 500
    assert int(headers["Content-Length"]) == len(body)
    assert b"written" not in body
    assert (seen(site, "error")["stored"], seen(site, "error")["attempts"]) == (None, 1)


def test_conflicts_that_outlast_the_attempts_are_503_with_retry_after(
    site: GunicornProcess,
) -> None:
    status, headers, body = call(site, "POST", "/write/conflict?fails=conflict")
    assert (status, headers["Retry-After"]) == (503, "1")
    assert int(headers["Content-Length"]) == len(body)
    assert b"written" not in body
    assert (seen(site, "conflict")["stored"], seen(site, "conflict")["attempts"]) == (None, 3)


def test_the_connection_goes_on_after_a_commit_error(site: GunicornProcess) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=30)
    for path, status in (("error?fails=error", 500), ("c?fails=conflict", 503), ("good", 200)):
        connection.request("POST", f"/write/{path}")
        answer = connection.getresponse()
        assert (answer.status, bool(answer.read())) == (status, True)
        if answer.will_close:
            connection.close()
    connection.close()


def test_a_streamed_response_commits_before_its_first_byte_and_reads_on(
    site: GunicornProcess,
) -> None:
    with send(site, "POST", "/stream/streamed") as client:
        answer = client.recv(65536)
        while b"first" not in answer:
            answer += client.recv(65536)
        found = seen(site, "streamed")
        assert (found["stored"], found["leased"]) == ("of the stream", 1)
        call(site, "POST", "/go_on/streamed")
        while b"0\r\n\r\n" not in answer:
            answer += client.recv(65536)
        assert b"of the stream" in answer
    wait_until(lambda: seen(site, "streamed")["leased"] == 0, "the lease comes back")


def test_a_client_that_goes_ends_its_streamed_response(site: GunicornProcess) -> None:
    with send(site, "POST", "/stream/left") as client:
        assert client.recv(12) == b"HTTP/1.1 200"
        assert seen(site, "left")["leased"] == 1
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    call(site, "POST", "/go_on/left")
    wait_until(lambda: seen(site, "left")["leased"] == 0, "the lease comes back")


def test_nothing_is_leased_while_a_websocket_is_idle(site: GunicornProcess) -> None:
    with WebSocket(f"ws://127.0.0.1:{site.port}/echo/any") as websocket:
        assert seen(site, "idle")["leased"] == 0
        websocket.send("idle")
        assert websocket.receive() == "idle"
        found = seen(site, "idle")
        assert (found["stored"], found["leased"]) == (1, 0)


@pytest.mark.parametrize("transport", ["polling", "websocket"])
def test_nothing_is_leased_while_a_socketio_client_is_idle(
    site: GunicornProcess, transport: str
) -> None:
    with SocketIO(site.url, "/board", transport=transport) as client:
        assert client.call("write", transport) == [transport]
        found = seen(site, transport)  # a long poll waits meanwhile
        assert (found["stored"], found["leased"]) == (1, 0)


def test_emits_of_a_request_happen_once_after_its_commit(site: GunicornProcess) -> None:
    with SocketIO(site.url, "/board") as client:
        assert call(site, "POST", "/write/refused?fails=error")[0] == 500
        sent = send(site, "POST", "/write/twice?fails=conflict&times=1&waits=tpc_vote")
        with sent:
            wait_until(lambda: seen(site, "twice")["waits"], "it votes")
            assert client.pending() == []
            call(site, "POST", "/go_on/twice")
            assert client.receive() == Event("written", ({"name": "twice"},))
            assert seen(site, "twice") == {"stored": 1, "attempts": 2, "waits": True, "leased": 0}
        assert call(site, "POST", "/write/next")[0] == 200
        assert client.receive() == Event("written", ({"name": "next"},))


COUNTER = """
from pyramid.config import Configurator
from nti.appserver.transactions import connection


def count(request):
    root = connection().root()
    root["visits"] = root.get("visits", 0) + 1
    return {"visits": root["visits"]}


def main(global_config, **settings):
    config = Configurator(settings=settings)
    config.include("nti.appserver")
    config.add_route("count", "/count")
    config.add_view(count, route_name="count", renderer="json")
    return config.make_wsgi_app()
"""


def test_visitors_of_several_workers_who_meet_are_all_served(tmp_path: Path) -> None:
    """Over the default storage, with the default number of attempts; nobody gets a 503."""
    (tmp_path / "counter.py").write_text(COUNTER)
    answers = []
    with served(tmp_path, "counter:main", "-w", "2") as site:
        site.wait_until_serving()
        for visitors in (2, 8):
            with ThreadPoolExecutor(visitors) as clients:
                answers += clients.map(lambda _: call(site, "POST", "/count"), range(100))
    assert {status for status, _, _ in answers} == {200}, site.output()
    assert sorted(json.loads(body)["visits"] for _, _, body in answers) == list(range(1, 201))
