"""What the event loop keeps of a descriptor that another process has, too.

Nothing here waits or switches.
"""

import contextlib
import os
from typing import Any

from gevent import monkey


def disregard(loop: Any, descriptor: int) -> None:
    """Have the kernel tell this loop no more of a descriptor; close it afterwards.

    libev leaves it to the kernel to forget what is closed, and the kernel does
    not while another process has the same connection open: each event on it
    would have libev set up its epoll anew, with every descriptor of the loop.

    :param descriptor: its watchers have been stopped.
    """
    if loop.backend != "epoll":
        return
    epoll = monkey.get_original("select", "epoll")
    # A copy, because the object closes what it was made from.
    with (
        epoll.fromfd(os.dup(loop.fileno())) as kernel,
        contextlib.suppress(FileNotFoundError),  # it was never waited for
    ):
        kernel.unregister(descriptor)
