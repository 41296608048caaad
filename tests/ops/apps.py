"""The application that tests/ops serves: each path makes one kind of trouble."""

import contextlib
import logging
import os
import signal
import time
from contextvars import copy_context
from typing import Any

import gevent

from nti.appserver.ops import OpsMiddleware

log = logging.getLogger("site")

_kept: list[bytearray] = []
_open: list[int] = []


def _busy(value: str) -> None:
    """Keep the hub from running, in Python code: for so many seconds, or until a file is there."""
    ends = time.perf_counter() + (float(value) if value[0].isdigit() else 60)
    while time.perf_counter() < ends and not os.path.exists(value):
        pass


def _wait(name: str) -> None:
    """Wait as greenlets do until a file is there."""
    while not os.path.exists(name):
        gevent.sleep(0.05)


def _trouble(path: str, value: str) -> None:
    if path == "/log":
        log.warning("a line about %s", value)
        gevent.spawn(copy_context().run, log.warning, "a line of a child").join()
    elif path == "/busy":
        _busy(value)
    elif path == "/wait":
        _wait(value)
    elif path == "/crash":
        os.kill(os.getpid(), signal.SIGKILL)
    elif path == "/grow":
        _kept.append(bytearray(os.urandom(1024)) * (int(value) * 1024))
    elif path == "/open":
        with contextlib.suppress(OSError):
            while True:
                _open.append(os.open(os.devnull, os.O_RDONLY))
    elif path == "/close":
        while _open:
            os.close(_open.pop())
    elif path == "/large":
        bytearray(int(value) << 20)


def site(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """Answers with the worker's number, after the trouble that was asked for."""
    _trouble(environ["PATH_INFO"], environ["QUERY_STRING"].rpartition("=")[2])
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]


app = OpsMiddleware(site)
