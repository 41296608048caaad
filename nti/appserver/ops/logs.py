"""Log lines in text or JSON, with the request's id, the greenlet's name, and no secrets.

`install` is called in gunicorn's arbiter and again in each worker; there
`name_greenlets` makes every record carry `request_id` and the greenlet's name.
Formatting runs in the greenlet that logs and does not switch. gunicorn's
arbiter imports this module: the standard library alone.
"""

import json
import logging
import os
import re
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from nti.appserver.request_id import current_request_id

#: Values of these query parameters open something for whoever reads them in a log.
SECRET_PARAMETERS = (
    "access_token",
    "api_key",
    "apikey",
    "code",
    "id_token",
    "key",
    "password",
    "refresh_token",
    "secret",
    "session",
    "sid",
    "sig",
    "signature",
    "token",
)
MASK = "***"

_PARAMETER = re.compile(rf"([?&](?:{'|'.join(SECRET_PARAMETERS)})=)[^&\s\"'#]+", re.IGNORECASE)
#: Credentials hold a digit or a sign somewhere; "Basic authentication" does not.
_SCHEMES = ("Basic ", "Bearer ", "Digest ")
_CREDENTIALS = re.compile(r"\b(Basic|Bearer|Digest) (?=\S*[\d=._~+/-])\S{6,}")

DATE = "[%Y-%m-%d %H:%M:%S %z]"

#: gunicorn's names of what its access log tells, and ours.
ACCESS_FIELDS = {
    "client": "h",
    "method": "m",
    "path": "U",
    "query": "q",
    "protocol": "H",
    "status": "s",
    "bytes": "B",
    "seconds": "L",
    "referer": "f",
    "agent": "a",
}


def masked(line: str) -> str:
    """The line without the values of secret query parameters and credentials."""
    # Looking for a word is many times cheaper than a regular expression that does not match.
    if "=" in line and ("?" in line or "&" in line):
        line = _PARAMETER.sub(rf"\1{MASK}", line)
    if any(scheme in line for scheme in _SCHEMES):
        line = _CREDENTIALS.sub(rf"\1 {MASK}", line)
    return line


class TextFormatter(logging.Formatter):
    """gunicorn's own lines, with the request's id, and the logger where it is not gunicorn's."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s [%(process)d] [%(levelname)s] %(where)s%(message)s", DATE)

    def format(self, record: logging.LogRecord) -> str:
        request_id = request_id_of(record)
        where = "" if record.name == "gunicorn.error" else f"{record.name}: "
        record.where = f"[{request_id}] {where}" if request_id else where
        return masked(super().format(record))


class AccessTextFormatter(logging.Formatter):
    """What `access_log_format` says, and the request's id at the end."""

    def format(self, record: logging.LogRecord) -> str:
        return self.finish_line(super().format(record), request_id_of(record))

    def finish_line(self, line: str, request_id: str | None = None) -> str:
        """What becomes of a message; the HTTP server asks without making a record.

        :param request_id: None: that of the greenlet.
        """
        line = masked(line)
        request_id = current_request_id() if request_id is None else request_id
        return f"{line} {request_id}" if request_id else line


class JSONFormatter(logging.Formatter):
    """One JSON object on a line: time, level, logger, message, process, thread, request_id."""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(self.fields(record), ensure_ascii=False, default=str)

    def fields(self, record: logging.LogRecord) -> dict[str, Any]:
        """What the line tells; `exception` is added where there is one."""
        found = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": masked(record.getMessage()),
            "process": record.process,
            "thread": record.threadName,
            "request_id": request_id_of(record),
        }
        if record.exc_info:
            found["exception"] = masked(self.formatException(record.exc_info))
        return found


class AccessJSONFormatter(JSONFormatter):
    """One JSON object for each answered request, in the fields of `ACCESS_FIELDS`."""

    def fields(self, record: logging.LogRecord) -> dict[str, Any]:
        """The request's fields instead of a message."""
        found = super().fields(record)
        atoms = record.args
        if not isinstance(atoms, Mapping):
            return found
        del found["message"], found["thread"]
        found.update({name: _plain(name, atoms[key]) for name, key in ACCESS_FIELDS.items()})
        found["query"] = masked("?" + str(found["query"] or ""))[1:]
        found["referer"] = masked(str(found["referer"]))
        return found


def _plain(name: str, value: Any) -> Any:
    """Numbers as numbers."""
    if name == "seconds":
        return float(value)
    if name == "status" and str(value).isdigit():
        return int(value)
    return value


def request_id_of(record: logging.LogRecord) -> str:
    """The id that the record carries, or that of the greenlet that formats it."""
    known = getattr(record, "request_id", None)
    return known if isinstance(known, str) else current_request_id()


def install(log_format: str) -> None:
    """Format what gunicorn logs by its own handlers; those of a log configuration stay as they are.

    :param log_format: `text` or `json`.
    """
    formatters: tuple[logging.Formatter, logging.Formatter]
    if log_format == "json":
        formatters = JSONFormatter(), AccessJSONFormatter()
    else:
        formatters = TextFormatter(), AccessTextFormatter("%(message)s")
    for name, formatter in zip(("gunicorn.error", "gunicorn.access"), formatters, strict=True):
        for handler in logging.getLogger(name).handlers:
            # gunicorn marks its own; syslog's has a prefix of its own format
            if getattr(handler, "_gunicorn", False) and not _is_syslog(handler):
                handler.setFormatter(formatter)


def _is_syslog(handler: logging.Handler) -> bool:
    return type(handler).__name__ == "SysLogHandler"


def adopt(name: str) -> None:
    """Let the logger `name` write by gunicorn's error handlers, at gunicorn's level.

    The package's own logger has them while the application is made, and the
    root logger afterwards where the application has not given it others: its
    lines would be lost otherwise.
    """
    logger = logging.getLogger(name)
    errors = logging.getLogger("gunicorn.error")
    for handler in errors.handlers:
        if handler not in logger.handlers:
            logger.addHandler(handler)
    if logger.level == logging.NOTSET or not name:
        logger.setLevel(errors.level)


def release(name: str) -> None:
    """Undo `adopt`: the logger's lines go to its parent's handlers alone."""
    logger = logging.getLogger(name)
    for handler in logging.getLogger("gunicorn.error").handlers:
        logger.removeHandler(handler)


def name_greenlets() -> None:
    """Worker: every record carries `request_id` and, as its thread's name, the greenlet's.

    logging's own look at the current thread would make a thread object for
    each greenlet that logs.
    """
    from greenlet import getcurrent

    logging.logThreads = False

    def record(*args: Any, **kwargs: Any) -> logging.LogRecord:
        made = logging.LogRecord(*args, **kwargs)
        greenlet = getcurrent()
        made.request_id = current_request_id()
        made.thread = id(greenlet)
        made.threadName = _greenlet_name(greenlet)
        return made

    logging.setLogRecordFactory(record)


def _greenlet_name(greenlet: Any) -> str:
    if greenlet.parent is None:  # the first greenlet of a native thread
        native = threading.get_native_id()
        return "MainThread" if native == os.getpid() else f"thread-{native}"
    name = getattr(greenlet, "name", None)
    if name == "":  # gevent's hub has none; it runs signal handlers, for one
        return "hub"
    return name if isinstance(name, str) else f"greenlet-{id(greenlet):x}"


def start_worker(log_format: str) -> None:
    """Worker, patched, before its application is made."""
    install(log_format)
    name_greenlets()
    adopt("nti.appserver")


def application_made() -> None:
    """Worker: what the application has configured for logging stands; where nothing, ours."""
    release("nti.appserver")
    if not logging.getLogger().handlers:
        adopt("")
