"""The sending side of a connection, which callers may use themselves while it has nothing to send.

The I/O thread writes through `writelines`; any thread may send one message between `claim`
and `release`, which neither wait nor switch. A lock keeps the two apart: no byte of one
comes into a message of the other. That holds for uvloop's plain transports alone. They write
in the thread that runs their loop, with the interpreter's lock held, and tell truly whether
anything is still to be written; asyncio's own, and TLS, do not.
"""

import ctypes
import os
import socket
from collections.abc import Iterable
from typing import Any

from uvloop.loop import TCPTransport, UnixTransport  # type: ignore[attr-defined]

from nti.appserver.hub import native

# Unlike `socket.send` this one keeps the interpreter's lock: it takes microseconds, and the
# I/O thread, should it get that lock meanwhile, may keep it for milliseconds.
_send = ctypes.PyDLL(None).send
_send.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int)
_send.restype = ctypes.c_ssize_t

_FLAGS = socket.MSG_DONTWAIT | getattr(socket, "MSG_NOSIGNAL", 0)


def outlet_for(transport: Any) -> "Outlet | None":
    """An outlet, where `transport` allows one."""
    if isinstance(transport, TCPTransport | UnixTransport):
        return Outlet(transport)
    return None


class Outlet:
    """In place of `transport` for the I/O thread; for others a way to send one message."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._lock = native.Lock()
        # Of its own: the loop may close the transport's at any moment, and another file get its
        # number. None: closed.
        self._descriptor: int | None = os.dup(transport.get_extra_info("socket").fileno())
        #: What is left of a message that another thread has sent in part.
        self._rest = b""

    # -- the I/O thread

    def writelines(self, pieces: Iterable[bytes]) -> None:
        with self._lock:
            self._write_rest()
            self._transport.writelines(pieces)

    def settle(self) -> None:
        """Write what others could not."""
        with self._lock:
            self._write_rest()

    def _write_rest(self) -> None:
        rest, self._rest = self._rest, b""
        if rest:
            self._transport.write(rest)

    def close(self) -> None:
        self._retire()
        self._transport.close()

    def abort(self) -> None:
        self._retire()
        self._transport.abort()

    def _retire(self) -> None:
        with self._lock:
            self._write_rest()
            descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            native.close(descriptor)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)

    # -- any thread

    def claim(self) -> bool:
        """Whether the caller may `send` one message now; it then must `release`."""
        if not self._lock.acquire(False):
            return False
        if (
            self._descriptor is None
            or self._rest
            or self._transport.is_closing()
            or self._transport.get_write_buffer_size()
        ):
            self._lock.release()
            return False
        return True

    def send(self, message: bytes) -> None:
        """Send it, once after a `claim`; what the socket does not take waits for `settle`."""
        sent = _send(self._descriptor, message, len(message), _FLAGS)
        # After an error all of it is left: the transport will meet that error and tell of it.
        if sent < len(message):
            self._rest = message[max(sent, 0) :]

    def release(self) -> None:
        self._lock.release()

    @property
    def is_settled(self) -> bool:
        """Whether nothing waits for `settle`."""
        return not self._rest
