"""The arbiters whose workers use the embedded server.

A worker notes its arbiter in a file, under the start lock; the server looks there when no
process uses it: while an arbiter lives, its next worker is about to come. A note is a process
id and the time of its start, so that a number which is used again is nobody's. Nothing waits here.
"""

import contextlib
import os
from pathlib import Path

#: Of proc(5)'s `stat`, counted from after the command's name; the time is in ticks.
_STATE, _START_TIME = 0, 19

#: It has ended, and whoever started it has not asked how.
_ENDED = ("Z", "X")


def note_parent(path: str) -> None:
    """Note the parent of this process, which is a worker; calling it again changes nothing."""
    parent = _named(os.getppid())
    if parent and parent not in _noted(path):
        with open(path, "a", encoding="ascii") as file:
            file.write(parent + "\n")


def any_lives(path: str) -> bool:
    """Whether an arbiter that was noted still lives."""
    return any(_named(int(noted.partition(" ")[0])) == noted for noted in _noted(path))


def _noted(path: str) -> list[str]:
    with contextlib.suppress(FileNotFoundError):
        return Path(path).read_text("ascii").splitlines()
    return []


def _named(pid: int) -> str:
    """The process of that number, as it is noted; '' when there is none, or it has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return ""
    fields = stat.rpartition(")")[2].split()
    return "" if fields[_STATE] in _ENDED else f"{pid} {fields[_START_TIME]}"
