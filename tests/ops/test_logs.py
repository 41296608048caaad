"""Log lines: formats, request ids, masks."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from nti.appserver.ops import logs
from nti.appserver.request_id import request_id_variable


@pytest.fixture
def gunicorn_loggers() -> Iterator[dict[str, io.StringIO]]:
    """gunicorn's two loggers with its own handlers, writing to memory."""
    streams = {}
    for name in ("gunicorn.error", "gunicorn.access"):
        logger = logging.getLogger(name)
        streams[name] = io.StringIO()
        handler = logging.StreamHandler(streams[name])
        handler._gunicorn = True  # type: ignore[attr-defined]
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False
    yield streams
    for name in streams:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(logging.NOTSET)


@pytest.fixture(autouse=True)
def no_request() -> Iterator[None]:
    """No request is under way, whatever one of the same process was before."""
    token = request_id_variable.set("")
    yield
    request_id_variable.reset(token)


@pytest.fixture
def request_id() -> Iterator[str]:
    token = request_id_variable.set("abc-1")
    yield "abc-1"
    request_id_variable.reset(token)


ATOMS = {
    "h": "192.0.2.1",
    "m": "GET",
    "U": "/page",
    "q": "token=s3cret&page=2",
    "H": "HTTP/1.1",
    "s": "200",
    "B": 12,
    "L": "0.001500",
    "f": "https://example.org/?sid=s3cret",
    "a": "agent",
    "r": "GET /page?token=s3cret&page=2 HTTP/1.1",
}


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("GET /?token=abc&x=1 HTTP/1.1", "GET /?token=***&x=1 HTTP/1.1"),
        ("GET /?x=1&Access_Token=abc HTTP/1.1", "GET /?x=1&Access_Token=*** HTTP/1.1"),
        ('"https://host/#a?sid=abc"', '"https://host/#a?sid=***"'),
        ("Authorization: Bearer abc.def-1", "Authorization: Bearer ***"),
        ("Authorization: Basic dXNlcjpwYXNz=", "Authorization: Basic ***"),
        ("Basic authentication failed", "Basic authentication failed"),
        ("Worker exited with code=3", "Worker exited with code=3"),
        ("GET /?tokens=3 HTTP/1.1", "GET /?tokens=3 HTTP/1.1"),
    ],
)
def test_secrets_are_masked(line: str, shown: str) -> None:
    assert logs.masked(line) == shown


def test_text_lines_have_the_request_id(
    gunicorn_loggers: dict[str, io.StringIO], request_id: str
) -> None:
    logs.install("text")
    logging.getLogger("gunicorn.error").error("it broke at /?token=s3cret")
    line = gunicorn_loggers["gunicorn.error"].getvalue()
    assert line.endswith(f"[ERROR] [{request_id}] it broke at /?token=***\n")


def test_a_line_outside_of_requests_looks_as_gunicorn_writes_it(
    gunicorn_loggers: dict[str, io.StringIO],
) -> None:
    logs.install("text")
    logging.getLogger("gunicorn.error").info("Booting worker with pid: %s", 7)
    assert (
        gunicorn_loggers["gunicorn.error"]
        .getvalue()
        .endswith("[INFO] Booting worker with pid: 7\n")
    )


def test_text_access_lines_end_with_the_request_id(
    gunicorn_loggers: dict[str, io.StringIO], request_id: str
) -> None:
    logs.install("text")
    logging.getLogger("gunicorn.access").info('%(h)s "%(r)s" %(s)s', ATOMS)
    line = gunicorn_loggers["gunicorn.access"].getvalue()
    assert line == f'192.0.2.1 "GET /page?token=***&page=2 HTTP/1.1" 200 {request_id}\n'


def test_json_lines(gunicorn_loggers: dict[str, io.StringIO], request_id: str) -> None:
    logs.install("json")
    try:
        raise ValueError("at /?token=s3cret")
    except ValueError:
        logging.getLogger("gunicorn.error").exception("two\nlines")
    found = json.loads(gunicorn_loggers["gunicorn.error"].getvalue())
    assert found["level"] == "ERROR"
    assert found["message"] == "two\nlines"
    assert found["request_id"] == request_id
    assert "ValueError: at /?token=***" in found["exception"]


def test_json_access_lines_have_fields(
    gunicorn_loggers: dict[str, io.StringIO], request_id: str
) -> None:
    logs.install("json")
    logging.getLogger("gunicorn.access").info('%(h)s "%(r)s" %(s)s', ATOMS)
    line = gunicorn_loggers["gunicorn.access"].getvalue()
    assert "s3cret" not in line
    found: dict[str, Any] = json.loads(line)
    assert (found["client"], found["method"], found["status"]) == ("192.0.2.1", "GET", 200)
    assert (found["seconds"], found["bytes"]) == (0.0015, 12)
    assert found["query"] == "token=***&page=2"
    assert found["request_id"] == request_id


def test_handlers_of_a_log_configuration_are_left_alone(
    gunicorn_loggers: dict[str, io.StringIO],
) -> None:
    own = logging.StreamHandler(io.StringIO())
    formatter = logging.Formatter("mine: %(message)s")
    own.setFormatter(formatter)
    logging.getLogger("gunicorn.error").addHandler(own)
    logs.install("json")
    assert own.formatter is formatter


def test_a_logger_is_adopted_and_released(gunicorn_loggers: dict[str, io.StringIO]) -> None:
    logger = logging.getLogger("nti.appserver.tests.adopted")
    logs.install("text")
    logs.adopt(logger.name)
    logger.propagate = False
    logger.info("while starting")
    logs.release(logger.name)
    logger.info("afterwards")
    line = gunicorn_loggers["gunicorn.error"].getvalue()
    assert line.endswith("[INFO] nti.appserver.tests.adopted: while starting\n")
