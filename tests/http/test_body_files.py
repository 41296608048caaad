"""Large bodies that the application keeps are sent from files; others, and other ways, are not."""

import gc
import logging
import os
import re
import ssl
import struct
from pathlib import Path
from socket import MSG_PEEK, SO_LINGER, SOL_SOCKET
from typing import Any

import pytest

from nti.appserver.http import body_files
from nti.appserver.http.body_files import LEAST, BodyFiles, file_with
from nti.appserver.testing.process import GunicornProcess, wait_until

from .apps import KEPT
from .client import Client, connect, rest, slow_reader
from .conftest import ROOT, Starter
from .pictures import PIXELS

LOG = logging.getLogger("tests")


def made(number: int, size: int = 1000) -> bytes:
    """A body that is no other's."""
    return b"%*d" % (size, number)


def from_files(client: Client) -> int:
    """Responses of a server's worker that were sent from files."""
    text = client.ask("/_ops/metrics").body.decode()
    found = re.search(r"^appserver_body_files_sent_total(?:{[^}]*})? (\d+)", text, re.MULTILINE)
    assert found, text
    return int(found[1])


def read(file: Any) -> bytes:
    return os.pread(file.fileno(), 1 << 20, 0)


# -- which bodies have files


def test_a_body_has_a_file_at_the_second_time() -> None:
    files, body = BodyFiles(10_000, LOG), made(1)
    assert files.file_of(body) is None
    file = files.file_of(body)
    assert read(file) == body
    assert files.file_of(body) is file


def test_an_equal_body_is_another_one() -> None:
    files = BodyFiles(10_000, LOG)
    bodies = [made(1), made(1)]
    assert [files.file_of(body) for body in bodies] == [None, None]
    first, second = [files.file_of(body) for body in bodies]
    assert first is not second


def test_a_body_that_was_let_go_is_never_taken_for_one_in_its_place() -> None:
    files = BodyFiles(100_000, LOG)
    for number in range(1000):
        body = made(number)  # where the one before was, if that is free
        assert files.file_of(body) is None
        assert read(files.file_of(body)) == body


def test_those_sent_longest_ago_are_forgotten() -> None:
    files = BodyFiles(3000, LOG)
    bodies = [made(number) for number in range(4)]
    for body in (*bodies[:3], *bodies[:3], bodies[0], bodies[3]):
        files.file_of(body)
    assert body_files.size.value == 3000
    assert files.file_of(bodies[3]) is not None
    assert files.file_of(bodies[0]) is not None
    assert files.file_of(bodies[1]) is None


def test_what_the_application_has_let_go_is_forgotten_first() -> None:
    files = BodyFiles(3000, LOG)
    kept = made(0)
    for body in (kept, made(1), made(2)):
        files.file_of(body)
    del body
    another = made(3)
    files.file_of(another)
    assert body_files.size.value == 2000
    assert files.file_of(kept) is not None


def test_there_are_not_too_many_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_files, "MOST_BODIES", 3)
    files = BodyFiles(1 << 30, LOG)
    bodies = [made(number) for number in range(5)]
    for body in bodies:
        files.file_of(body)
    assert body_files.size.value == 3000
    assert files.file_of(bodies[4]) is not None
    assert files.file_of(bodies[0]) is None


def test_a_body_larger_than_all_may_be_is_not_remembered() -> None:
    files, body = BodyFiles(999, LOG), made(1)
    assert [files.file_of(body) for _ in range(3)] == [None] * 3


def test_a_file_cannot_be_changed() -> None:
    file = file_with(made(1))
    with pytest.raises(PermissionError):
        os.pwrite(file.fileno(), b"!", 0)
    with pytest.raises(PermissionError):
        os.ftruncate(file.fileno(), 10)


def test_a_forgotten_file_is_closed_when_it_is_not_sent_any_more() -> None:
    files, body = BodyFiles(1000, LOG), made(1)
    files.file_of(body)
    file: Any = files.file_of(body)
    number = file.fileno()
    files.file_of(made(2))
    gc.collect()
    assert read(file) == body
    del file
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)


def test_without_room_for_a_file_bodies_are_copied(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(24, "Too many open files")

    files, body = BodyFiles(10_000, LOG), made(1)
    monkeypatch.setattr(os, "memfd_create", refuse)
    assert [files.file_of(body) for _ in range(4)] == [None] * 4
    assert caplog.text.count("Too many open files") == 1
    assert body_files.size.value == 0


# -- on connections


@pytest.fixture(scope="module")
def context(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate[0]))


def test_a_kept_body_is_sent_from_its_file(server: GunicornProcess) -> None:
    assert len(KEPT) > LEAST
    with connect(server) as client:
        before = from_files(client)
        for _ in range(4):
            answer = client.ask("/kept")
            assert answer.body == KEPT
            assert answer.headers["content-length"] == str(len(KEPT))
            assert answer.headers["connection"] == "keep-alive"
        assert client.ask("/echo").status == 200
        assert from_files(client) >= before + 3


def test_a_body_made_for_a_request_is_not_kept(server: GunicornProcess) -> None:
    with connect(server) as client:
        before = from_files(client)
        for _ in range(4):
            assert client.ask("/kept?made").body == KEPT[:-1] + b"."
        assert from_files(client) == before
        text = client.ask("/_ops/metrics").body.decode()
        size = re.search(r"^appserver_body_files_bytes(?:{[^}]*})? (\S+)", text, re.MULTILINE)
        assert size
        assert float(size[1]) in (0, len(KEPT)), "KEPT itself, from another test"


def test_over_a_unix_socket(server: GunicornProcess) -> None:
    with Client(str(server.cwd / "http.sock")) as client:
        before = from_files(client)
        assert [client.ask("/kept").body == KEPT for _ in range(3)] == [True] * 3
        assert from_files(client) >= before + 2


def test_a_persistent_objects_bytes_are_sent_from_a_file(tmp_path: Path) -> None:
    """Through all of the server's middleware and Pyramid, out of the connection's cache."""
    environ = {
        "NTI_APPSERVER_APPLICATION": "tests.http.pictures:main",
        "NTI_APPSERVER_STORAGE": f"file://{tmp_path}/data.fs",
    }
    options = ("--pythonpath", str(ROOT))
    app = "nti.appserver.gunicorn:app"
    with GunicornProcess(app, *options, cwd=tmp_path, environ=environ) as server:
        server.wait_until_serving()
        with connect(server) as client:
            assert client.ask("/picture", "Content-Length: 0", method="POST").status == 200
            for _ in range(3):
                answer = client.ask("/picture")
                assert answer.body == PIXELS
                assert answer.headers["content-type"] == "image/png"
            assert from_files(client) == 2


def test_not_over_tls(
    start: Starter, certificate: tuple[Path, Path], context: ssl.SSLContext
) -> None:
    cert, key = certificate
    server = start("--certfile", str(cert), "--keyfile", str(key))
    server.wait_for_output("Serving https")
    with connect(server, context) as client:
        assert [client.ask("/kept").body == KEPT for _ in range(3)] == [True] * 3
        assert from_files(client) == 0


@pytest.mark.parametrize("how", ["setting", "sendfile"])
def test_not_where_it_is_switched_off(start: Starter, how: str) -> None:
    options, settings = ([], {"body_files": "0"}) if how == "setting" else (["--no-sendfile"], {})
    with connect(start(*options, **settings).wait_until_serving()) as client:
        assert [client.ask("/kept").body == KEPT for _ in range(3)] == [True] * 3
        assert from_files(client) == 0


def test_what_else_a_kept_body_may_meet(server: GunicornProcess) -> None:
    """HEAD, no length, a wrong length, HTTP/1.0 without and with a length."""
    with connect(server) as client:
        for _ in range(3):
            assert client.ask("/kept", method="HEAD").headers["content-length"] == str(len(KEPT))
            assert client.ask("/kept?streamed").body == KEPT
            assert client.ask("/kept?length=200000").body == KEPT[:200_000]
            assert client.ask("/kept").body == KEPT
    for path in (b"/kept", b"/kept?streamed"):
        with connect(server) as client:
            client.send(b"GET %s HTTP/1.0\r\n\r\n" % path)
            assert client.answer().body == KEPT
            assert client.ended()


def test_a_kept_body_that_is_too_short_ends_the_connection(server: GunicornProcess) -> None:
    for _ in range(3):
        with connect(server) as client:
            client.send(b"GET /kept?length=2000000 HTTP/1.1\r\nHost: a\r\n\r\n")
            assert rest(client).endswith(KEPT)


def test_many_in_a_row_to_who_reads_slowly(server: GunicornProcess) -> None:
    """And to who goes away meanwhile."""
    with slow_reader(server) as slow:
        slow.send(b"GET /kept HTTP/1.1\r\nHost: a\r\n\r\n" * 4)
        wait_until(lambda: slow.socket.recv(1, MSG_PEEK), "it has begun to answer")
        for _ in range(5):
            with slow_reader(server) as gone:
                gone.send(b"GET /kept HTTP/1.1\r\nHost: a\r\n\r\n")
                gone.socket.recv(1000)
                gone.socket.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
        assert [slow.answer().body == KEPT for _ in range(4)] == [True] * 4
    assert "Traceback" not in server.output()
