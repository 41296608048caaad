"""Dumps of all stacks on SIGURG, to a file beside the worker's record.

SIGURG, because gunicorn and gevent do not use it, and a process that has not
installed it yet ignores it. Two handlers answer: faulthandler's, in C, writes
the threads' stacks even where the main thread hangs outside of Python; then
Python's, between two byte codes of whatever greenlet runs, writes every greenlet.
"""

import contextlib
import faulthandler
import json
import logging
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from nti.appserver.ops import stacks
from nti.appserver.ops.processes import Identity

SIGNAL = signal.SIGURG

log = logging.getLogger(__name__)

_files: list[Path] = []


def greenlets_file(folder: Path, who: Identity) -> Path:
    """Where that worker writes every greenlet's stack, as JSON."""
    return folder / f"stacks-{who[0]}-{who[1]}.json"


def threads_file(folder: Path, who: Identity) -> Path:
    """Where that worker writes its native threads' stacks, as text, before the greenlets'."""
    return folder / f"threads-{who[0]}-{who[1]}.txt"


def install(folder: Path, who: Identity) -> None:
    """Answer the signal from now on; called in the main thread."""
    greenlets, threads = greenlets_file(folder, who), threads_file(folder, who)

    def dump(number: int, frame: FrameType | None) -> None:
        found = stacks.stacks(frame)
        try:
            _write(greenlets, found)
            os.truncate(threads, 0)
            log.info("stacks of %d greenlets are in %s", found["greenlets"], greenlets)
        except OSError:
            log.info("stacks, %s", stacks.text(found))

    signal.signal(SIGNAL, dump)
    # An interrupted system call goes on, as if nothing had been.
    signal.siginterrupt(SIGNAL, False)
    with contextlib.suppress(OSError):
        file = os.open(threads, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        faulthandler.register(SIGNAL, file=file, all_threads=True, chain=True)
        _files.extend((greenlets, threads))


def remove() -> None:
    """Answer no more, and take the files away."""
    faulthandler.unregister(SIGNAL)
    signal.signal(SIGNAL, signal.SIG_IGN)
    while _files:
        _files.pop().unlink(missing_ok=True)


def ask(
    folder: Path, who: Identity, seconds: float, pause: Callable[[float], object] = time.sleep
) -> dict[str, Any] | str:
    """The stacks of another process of this user, asked for now.

    :param seconds: how long to wait for its answer.
    :return: what `stacks.stacks` gives; or, where its main thread runs no Python
        code, the native threads' stacks as text; '' where it answers in no way.
    :raises ProcessLookupError: it has ended.
    :raises PermissionError: it belongs to another user.
    """
    asked = time.time()
    path = greenlets_file(folder, who)
    os.kill(who[0], SIGNAL)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, ValueError):
            found = json.loads(path.read_bytes())
            if isinstance(found, dict) and found["time"] >= asked:
                return found
        pause(0.02)
    try:
        return threads_file(folder, who).read_text("utf-8", "replace")
    except OSError:
        return ""


def _write(path: Path, found: dict[str, Any]) -> None:
    temporary = path.with_suffix(".new")
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
        json.dump(found, stream)
    os.replace(temporary, path)
