"""Messages between the workers of a site: unix stream sockets in `runtime_dir`/bus.

Each worker that has clients listens on a socket of its own in that folder, and
sends to every other socket it finds there. Nothing stands between them, so
nothing has to be started, and a worker that dies takes nothing with it.

Runs in greenlets of a worker. `publish` never waits and never switches: each
peer has a bounded queue and a greenlet that empties it. Messages of one worker
reach another in order.
"""

import contextlib
import logging
import os
import secrets
from collections import deque
from collections.abc import Callable
from pathlib import Path

import gevent
from gevent import socket
from gevent.event import Event

from nti.appserver.handover.folder import SUFFIX, Folder
from nti.appserver.metrics import Counter

logger = logging.getLogger("nti.appserver.socketio")

#: The largest message, bytes; and what may wait for a peer that does not take it.
MAX_MESSAGE = 64 * 1024 * 1024
MAX_QUEUED = 16 * 1024 * 1024

#: Peers that may wait to be accepted.
BACKLOG = 128

#: How long a peer may take none of what is sent, seconds.
SEND_SECONDS = 10.0

sent = Counter("appserver_bus_messages_sent_total", "Messages sent to other workers.")
received = Counter("appserver_bus_messages_received_total", "Messages from other workers.")
lost = Counter(
    "appserver_bus_messages_lost_total", "Messages that a worker was too slow for, or died before."
)


def framed(message: bytes) -> bytes:
    """A message as it goes over a socket: its length in 4 bytes, then itself.

    :raises ValueError: it is larger than `MAX_MESSAGE`.
    """
    if len(message) > MAX_MESSAGE:
        raise ValueError(f"a bus message of {len(message)} bytes, expected at most {MAX_MESSAGE}")
    return len(message).to_bytes(4, "big") + message


class Peer:
    """Another worker, as this one sends to it.

    :param forget: called with its name when it can be sent to no more.
    """

    def __init__(self, folder: Folder, name: str, forget: Callable[[str], object]) -> None:
        self.name = name
        self._folder = folder
        self._forget = forget
        self._queue: deque[bytes] = deque()
        self._queued = 0
        self._wake = Event()
        gevent.spawn(self._run)

    def put(self, data: bytes) -> None:
        """Queue a framed message; dropped and counted when the peer is too far behind."""
        if self._queued + len(data) > MAX_QUEUED and self._queue:
            lost.inc()
            return
        self._queue.append(data)
        self._queued += len(data)
        self._wake.set()

    def _run(self) -> None:
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(self._folder.address(self.name))
                while True:
                    self._wake.wait()
                    self._wake.clear()
                    self._send(connection)
        except (ConnectionRefusedError, FileNotFoundError):
            self._folder.remove(self.name)  # its owner has died and left it behind
        except OSError as problem:
            lost.inc(len(self._queue))
            logger.info("bus: %d messages for %s lost: %s", len(self._queue), self.name, problem)
        finally:
            self._forget(self.name)

    def _send(self, connection: socket.socket) -> None:
        while self._queue:
            data = self._queue[0]
            with gevent.Timeout(SEND_SECONDS, TimeoutError("it takes nothing")):
                connection.sendall(data)
            self._queue.popleft()
            self._queued -= len(data)
            sent.inc()


class LocalBus:
    """This worker's end of the bus.

    :param folder: where the sockets are; made with mode 0700 when this worker listens.
    :param deliver: called with each message from another worker, in the
        greenlet that reads from that one; it may wait, and then that one does.
    """

    def __init__(self, folder: Path, deliver: Callable[[bytes], object]) -> None:
        self._folder = Folder(folder)
        self._deliver = deliver
        self._peers: dict[str, Peer] = {}
        self._name = f"{os.getpid()}-{secrets.token_hex(4)}{SUFFIX}"
        #: Why this worker hears nothing from the others; "" when it does or need not.
        self.problem = ""

    def listen(self) -> None:
        """Hear the others from now on. A folder that cannot be used is reported, not raised."""
        try:
            listener = self._folder.listen(self._name, BACKLOG)
        except OSError as problem:
            self.problem = f"{self._folder.path}: {problem.strerror or problem}"
            logger.error(
                "bus: emits of other workers are not heard: %s; set runtime_dir to a folder that "
                "the workers may write",
                self.problem,
            )
            return
        gevent.spawn(self._accept, listener)

    def alone(self) -> bool:
        """Whether no other worker listens."""
        names = self._folder.names()
        return not names or names == (self._name,)

    def publish(self, message: bytes) -> None:
        """Send to every other worker; never waits.

        :raises ValueError: the message is too large.
        """
        data = framed(message)
        for name in self._folder.names():
            if name != self._name:
                peer = self._peers.get(name)
                if peer is None:
                    peer = self._peers[name] = Peer(self._folder, name, self._forget)
                peer.put(data)

    def _forget(self, name: str) -> None:
        self._peers.pop(name, None)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError as problem:  # out of descriptors, most likely
                logger.error("bus: %s", problem)
                gevent.sleep(0.1)
                continue
            gevent.spawn(self._read, connection)

    def _read(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as stream, contextlib.suppress(OSError):
            while len(head := stream.read(4)) == 4:
                length = int.from_bytes(head, "big")
                if length > MAX_MESSAGE or len(message := stream.read(length)) < length:
                    return
                received.inc()
                self._deliver(message)
