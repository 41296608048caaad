"""Modules that must not be imported before the worker is patched.

With `preload_app`, and from gunicorn's Python configuration file, modules are
imported in the arbiter, and every worker inherits them as they were made: of
unpatched primitives. `unsafe_modules` names those that then go wrong.

Runs once in a worker, before patching; nothing here waits or switches.
"""

import sys
import threading
from collections.abc import Iterator, Mapping
from typing import Any

#: What goes wrong with each when it was imported before patching.
UNSAFE: Mapping[str, str] = {
    "transaction": "all greenlets share one transaction",
    "pyramid.threadlocal": "all greenlets share one current request",
    "ZODB": "its locks block the whole worker",
    "ZEO": "its locks block the whole worker",
    "nti.transactions": "all greenlets share one transaction",
    "urllib3": "its locks and TLS contexts are the unpatched ones",
    "requests": "its locks and TLS contexts are urllib3's, the unpatched ones",
    "concurrent.futures.thread": "its threads were not forked, its lock blocks the whole worker",
}

#: Imported by asyncio, which gunicorn's control socket brings into the arbiter for its own thread.
_ASYNCIO_BRINGS = ("concurrent.futures.thread",)

#: Their thread-locals are either patched in place or never used by greenlets.
_TRUSTED = frozenset({"gevent", "greenlet", "gunicorn"}) | sys.stdlib_module_names


def unsafe_modules() -> dict[str, str]:
    """The unsafe modules that are imported, with what goes wrong with each.

    Besides those known by name these are modules with a class of thread-local
    data: its base class is the unpatched one, so greenlets would share it.
    """
    found = {name: why for name, why in UNSAFE.items() if name in sys.modules}
    if "asyncio" in sys.modules:
        for name in _ASYNCIO_BRINGS:
            found.pop(name, None)
    for name in _with_thread_locals(threading.local):
        if name not in found and name.partition(".")[0] not in _TRUSTED:
            found[name] = "all greenlets share its thread-local data"
    return found


def _with_thread_locals(base: type[Any]) -> Iterator[str]:
    cls: type[Any]
    for cls in base.__subclasses__():
        yield cls.__module__
        yield from _with_thread_locals(cls)
