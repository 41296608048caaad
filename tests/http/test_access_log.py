"""The access log: every atom as gunicorn makes it, and whoever changes the logger is asked."""

import logging
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.glogging import Logger, SafeAtoms

from nti.appserver.http.access import Log, access_log
from nti.appserver.http.request import Request

SECONDS = 3.141592

ENVIRON = {
    "REQUEST_METHOD": "GET", "RAW_URI": '/a"b?c=d', "PATH_INFO": '/a"b', "QUERY_STRING": "c=d",
    "SERVER_PROTOCOL": "HTTP/1.1", "REMOTE_ADDR": "198.51.100.7", "HTTP_REFERER": 'http://e/"',
    "HTTP_USER_AGENT": 'x/1 "y"', "HTTP_AUTHORIZATION": "Basic dXNlcjpwdw==", "HTTP_HOST": "h",
    "wsgi.url_scheme": "https",
}  # fmt: skip


class Answer:
    status = "404 Not Found"
    sent = 1234
    headers = [("Content-Type", "text/plain"), ("X-Quoted", '"')]


def request() -> Request:
    lines = [b"Host: h", b"X-Odd:  \xe9 "]
    return Request("GET", ENVIRON["RAW_URI"], "c=d", (1, 1), "https", lines, None)


def written(kind: type[Logger], file: Path, environ: dict[str, Any], format: str) -> list[str]:
    """What our way writes, and what gunicorn's own would write."""
    cfg = Config()
    cfg.set("accesslog", str(file))
    cfg.set("access_log_format", format)
    log = kind(cfg)
    ours = access_log(log, cfg)
    assert ours is not None
    ours(Answer(), request(), environ, SECONDS)
    log.access(Answer(), request(), environ, timedelta(seconds=SECONDS))
    for handler in log.access_log.handlers:
        handler.close()
    log.access_log.handlers.clear()
    return file.read_text("utf-8").splitlines()


NAMES = [
    *"hlurstmUqHbBfaTDMLp",
    "{host}i", "{Host}i", "{x-odd}i", "{x-none}i", "{content-type}o", "{X-Quoted}o", "{x-none}o",
    "{request_method}e", "{REMOTE_ADDR}e", "{none}e", "unknown",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_atoms(name: str, tmp_path: Path) -> None:
    ours, theirs = written(Logger, tmp_path / "log", ENVIRON, f"%({name})s|%(s)s")
    if name == "t":  # the second may change between two lines
        assert ours[:13] == theirs[:13]
    else:
        assert ours == theirs
    absent = name in ("unknown", "{none}e", "{x-none}i", "{x-none}o", "l")
    assert absent == ours.startswith("-|")


def test_what_is_absent_is_a_dash(tmp_path: Path) -> None:
    bare = {k: ENVIRON[k] for k in ("REQUEST_METHOD", "RAW_URI", "SERVER_PROTOCOL")}
    ours, theirs = written(Logger, tmp_path / "log", bare, "%(h)s %(u)s %(f)s %(a)s %(m)s")
    assert ours == theirs == "- - - - GET"
    bad = {**ENVIRON, "HTTP_AUTHORIZATION": "Basic x"}
    assert set(written(Logger, tmp_path / "log", bad, "%(u)s")[-2:]) == {"-"}


class Chosen(Logger):  # type: ignore[misc]
    """Overrides everything."""

    def access(self, resp: Any, req: Any, environ: dict[str, Any], request_time: Any) -> None:
        assert type(request_time) is timedelta
        self.access_log.info("%s in %s", resp.status, request_time)


class Renamed(Logger):  # type: ignore[misc]
    """Overrides the atoms."""

    def atoms(self, *args: Any) -> dict[str, Any]:
        return {**super().atoms(*args), "s": "my own"}


class Shouting(Logger):  # type: ignore[misc]
    """Overrides how atoms are looked up."""

    class atoms_wrapper_class(SafeAtoms):  # type: ignore[misc]
        def __getitem__(self, key: str) -> Any:
            return str(super().__getitem__(key)).upper()


@pytest.mark.parametrize(
    ("kind", "line"),
    [(Chosen, "404 Not Found in 0:00:03.141592"), (Renamed, "my own GET"), (Shouting, "404 GET")],
)
def test_loggers_of_ones_own(kind: type[Logger], line: str, tmp_path: Path) -> None:
    assert written(kind, tmp_path / "log", ENVIRON, "%(s)s %(m)s") == [line, line]


def test_a_handler_or_filter_that_was_added_gets_a_record(tmp_path: Path) -> None:
    cfg = Config()
    cfg.set("accesslog", str(tmp_path / "log"))
    log = Logger(cfg)
    write: Log | None = access_log(log, cfg)
    assert write is not None
    seen: list[str] = []

    class Keeps(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(record.getMessage())

    log.access_log.addHandler(Keeps())
    write(Answer(), request(), ENVIRON, SECONDS)
    for handler in log.access_log.handlers:
        handler.close()
    log.access_log.handlers.clear()
    assert len(seen) == 1
    assert seen[0].startswith("198.51.100.7 - user [")


def test_no_log_is_kept_where_none_is_asked_for() -> None:
    cfg = Config()
    assert access_log(Logger(cfg), cfg) is None
