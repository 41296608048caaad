"""Giving a descriptor to another worker of this machine, and knowing that it was taken.

One connection to the other worker's unix socket for each descriptor: the frame
(a length in 4 bytes, a description as JSON in a line, bytes) goes with the
descriptor (SCM_RIGHTS), and one byte comes back when it was taken. Without it
the descriptor is still the giver's: a worker that dies, or has no room, loses
nothing. Only processes of the same user are dealt with, on both sides.

Runs in greenlets of a worker; `pass_on` and `Receiver` wait, but never longer
than `PATIENCE`.
"""

import array
import json
import logging
import os
import socket as native
import struct
from collections.abc import Callable
from typing import Any

import gevent
from gevent import socket
from gevent.pool import Pool

from nti.appserver.handover.folder import Folder

logger = logging.getLogger(__name__)

#: Seconds for one descriptor to be given and taken.
PATIENCE = 5.0

#: Bytes of one frame.
MAX_FRAME = 4 * 1024 * 1024

#: Descriptors that are on their way to a worker at a time; more wait in its backlog.
AT_A_TIME = 256
BACKLOG = 2048

TAKEN, REFUSED = b"+", b"-"

_CREDENTIALS = struct.Struct("3i")
_LENGTH = struct.Struct("!I")

Description = dict[str, Any]
#: Takes a descriptor, what is said of it, and bytes.
Take = Callable[[int, Description, bytes], object]


def same_user(connection: Any) -> bool:
    """Whether the process at the other end of a unix socket is of this one's user."""
    raw = connection.getsockopt(socket.SOL_SOCKET, native.SO_PEERCRED, _CREDENTIALS.size)
    _, user, _ = _CREDENTIALS.unpack(raw)
    return bool(user == os.geteuid())


def pass_on(
    folder: Folder, name: str, descriptor: int, description: Description, data: bytes
) -> bool:
    """Give a descriptor to the worker that listens under `name`; whether it has taken it.

    The caller's own copy stays open in either case. A socket that nobody
    listens on any more is taken away.
    """
    frame = json.dumps(description).encode() + b"\n" + data
    if len(frame) > MAX_FRAME:
        return False
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.settimeout(0)  # where its backlog is full, gevent would not wait but spin
            connection.connect(folder.address(name))
            connection.settimeout(PATIENCE)
            if not same_user(connection):
                logger.error("%s/%s is of another user", folder.path, name)
                return False
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))]
            frame = _LENGTH.pack(len(frame)) + frame
            sent = connection.sendmsg([frame], rights)
            connection.sendall(frame[sent:])
            return _answer(connection) == TAKEN
        except (ConnectionRefusedError, FileNotFoundError):
            folder.remove(name)  # its owner has died and left it behind
        except OSError as problem:
            logger.info("no connection was given to %s: %s", name, problem)
    return False


def _answer(connection: socket.socket) -> bytes:
    """What the other worker said. When this returns nothing, it can say nothing any more."""
    try:
        return bytes(connection.recv(1))
    except TimeoutError:
        # From here on its answer fails, and it lets go; one that came just now still counts.
        connection.shutdown(socket.SHUT_RD)
        connection.settimeout(0)
        return bytes(connection.recv(1))


class Receiver:
    """Takes descriptors from the other workers.

    :param has_room: whether this worker wants another one now.
    :param take: called with each, in a greenlet of its own; from then on the
        descriptor is its to close.
    """

    def __init__(self, folder: Folder, name: str, has_room: Callable[[], bool], take: Take) -> None:
        self._folder = folder
        self._name = name
        self._has_room = has_room
        self._take = take
        self._pool = Pool(AT_A_TIME)
        self._listener: Any = None
        self._accepting: Any = None

    def start(self) -> None:
        """Take from now on.

        :raises OSError: the folder cannot be used.
        """
        self._listener = self._folder.listen(self._name, BACKLOG)
        self._accepting = gevent.spawn(self._accept)
        self._accepting.name = "handover"

    def stop(self) -> None:
        """Take no more. Whoever waits in the backlog keeps what is theirs."""
        if self._listener is not None:
            self._folder.remove(self._name)
            self._accepting.kill(block=False)
            self._listener.close()
            self._listener = None

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError as problem:  # out of descriptors, most likely
                logger.warning("handover: %s", problem)
                gevent.sleep(0.1)
                continue
            self._pool.spawn(self._receive, connection)

    def _receive(self, connection: socket.socket) -> None:
        descriptor = -1
        with connection:
            try:
                connection.settimeout(PATIENCE)
                if not same_user(connection):
                    return
                descriptor, frame = _read(connection)
                description, _, data = frame.partition(b"\n")
                found = json.loads(description)
                if not self._has_room():
                    connection.send(REFUSED)
                    return
                connection.send(TAKEN)
                ours, descriptor = descriptor, -1
                self._take(ours, found, data)
            except (OSError, ValueError) as problem:
                # The giver is gone, or has waited for too long and keeps it.
                logger.info("handover: %s", problem)
            finally:
                if descriptor >= 0:
                    os.close(descriptor)


def _read(connection: socket.socket) -> tuple[int, bytes]:
    """A frame and the descriptor that came with it, -1 where none did."""
    data, ancillary, _, _ = connection.recvmsg(64 * 1024, socket.CMSG_SPACE(4))
    descriptors = array.array("i")
    for level, kind, rights in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(rights[: len(rights) - len(rights) % descriptors.itemsize])
    if not descriptors:
        raise ValueError("a frame without a descriptor")
    descriptor = descriptors[0]
    try:
        while len(data) < _LENGTH.size or len(data) < _LENGTH.size + _size(data):
            piece = connection.recv(64 * 1024)
            if not piece:
                raise ValueError("a frame that ends too early")
            data += piece
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor, data[_LENGTH.size :]


def _size(data: bytes) -> int:
    size: int = _LENGTH.unpack_from(data)[0]
    if size > MAX_FRAME:
        raise ValueError(f"a frame of {size} bytes, expected at most {MAX_FRAME}")
    return size
