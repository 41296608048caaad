"""The stacks of all greenlets and native threads of a process, alike ones together.

`stacks` may run in a signal handler, in whichever greenlet was interrupted: it
takes no lock and does not switch. It shows lines of code, never values, so no
secret gets into a dump.
"""

import gc
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from types import FrameType
from typing import Any

from greenlet import getcurrent, greenlet

from nti.appserver.request_id import request_id_variable

#: Names shown of greenlets that stand at the same place.
SHOWN = 8

Stack = tuple[str, ...]


def stacks(here: FrameType | None = None) -> dict[str, Any]:
    """Every greenlet and native thread, as JSON can hold it.

    :param here: the frame that a signal interrupted, the caller's when not given.
    :return: `time`, `greenlets` (how many), `threads` (how many) and `groups`,
        the largest first: each has `count`, `names` (a few) and `stack`.
    """
    groups: dict[Stack, list[str]] = {}
    greenlets = list(_greenlets(here if here is not None else sys._getframe(1)))
    threads = list(_threads())
    for name, frame in (*greenlets, *threads):
        groups.setdefault(_lines(frame), []).append(name)
    ordered = sorted(groups.items(), key=lambda item: -len(item[1]))
    return {
        "time": time.time(),
        "greenlets": len(greenlets),
        "threads": len(threads),
        "groups": [
            {"count": len(names), "names": names[:SHOWN], "stack": list(stack)}
            for stack, names in ordered
        ],
    }


def text(found: dict[str, Any]) -> str:
    """A dump to read."""
    parts = [f"{found['greenlets']} greenlets, {found['threads']} other threads\n"]
    for group in found["groups"]:
        names = ", ".join(group["names"])
        more = group["count"] - len(group["names"])
        also = f" and {more} more" if more else ""
        parts.append(f"\n{group['count']} x {names}{also}\n{''.join(group['stack'])}")
    return "".join(parts)


def _greenlets(here: FrameType) -> Iterator[tuple[str, FrameType | None]]:
    """This thread's greenlets, and those of other threads that are suspended."""
    current = getcurrent()
    for item in gc.get_objects():
        # type() first: isinstance may run a proxy's code
        if not issubclass(type(item), greenlet) or item.dead or not item:
            continue
        frame = here if item is current else item.gr_frame
        if frame is not None:
            yield _name(item), frame


def _name(item: greenlet) -> str:
    name = getattr(item, "name", None)
    shown = name if isinstance(name, str) else f"{type(item).__name__} at {id(item):#x}"
    try:
        context = item.gr_context
    except ValueError:  # it runs in another thread
        return shown
    request_id = context.get(request_id_variable, "") if context is not None else ""
    return f"{shown} [request {request_id}]" if request_id else shown


def _threads() -> Iterator[tuple[str, FrameType]]:
    """The native threads but this one, whose greenlets are listed."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    own = _native_ident()
    for ident, frame in sys._current_frames().items():
        if ident != own:
            yield f"thread {names.get(ident, hex(ident))}", frame


def _native_ident() -> int:
    """This thread's number, which `threading.get_ident` tells only where it is not patched."""
    here = sys._getframe()
    for ident, frame in sys._current_frames().items():
        if frame is here:
            return ident
    return threading.get_ident()


def _lines(frame: FrameType | None) -> Stack:
    return tuple(traceback.format_stack(frame))
