"""The primitives of real threads, as they are without monkey patching.

Safe to use from any thread. None of these switches greenlets: `sleep` and a
contended lock stop the whole thread, the hub with it, so on a hub's thread
they are for moments alone.
"""

import _thread
import os
from typing import Any

from gevent import monkey

start_new_thread = monkey.get_original("_thread", "start_new_thread")
get_ident = monkey.get_original("_thread", "get_ident")
sleep = monkey.get_original("time", "sleep")
#: gevent's leaves it to the thread's hub, if that has one; one that never runs never closes.
close = monkey.get_original("os", "close")
gethostbyaddr = monkey.get_original("socket", "gethostbyaddr")

#: A lock that stops a thread; it is not re-entrant.
Lock: Any = monkey.get_original("_thread", "allocate_lock")

#: The same, used as a signal: the waiter takes it twice, another thread lets it go.
Gate: Any = Lock

#: A re-entrant lock owned by a thread. Patching replaces `threading.RLock` only.
RLock: Any = _thread.RLock


def is_patched() -> bool:
    """Whether this process runs greenlets in place of threads: threading and socket are patched."""
    return bool(monkey.is_module_patched("threading") and monkey.is_module_patched("socket"))


def is_main_thread() -> bool:
    """Whether the calling thread is the one the process began with, or that forked it."""
    return _thread.get_native_id() == os.getpid()
