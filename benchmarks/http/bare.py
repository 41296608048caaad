"""A loop that receives a request and sends 1 MB: the least that a body from memory costs.

    python -m benchmarks.http.bare ADDRESS

One process, one thread, epoll; it looks at nothing that is sent to it. What it
costs is the kernel's: the copy into the socket, and TCP over loopback.
"""

import contextlib
import select
import socket
import sys

from benchmarks.http.apps import LARGE_BODY, LARGE_SIZE

RESPONSE = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % LARGE_SIZE
    + LARGE_BODY
)


class Loop:
    """All connections of a listening socket."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._poll = select.epoll()
        self._poll.register(listener, select.EPOLLIN)
        self._connections: dict[int, socket.socket] = {}
        #: What is still to be sent, by descriptor.
        self._rest: dict[int, memoryview] = {}

    def run(self) -> None:
        """Serve until the process is ended."""
        while True:
            for number, _ in self._poll.poll():
                if number == self._listener.fileno():
                    self._accept()
                    continue
                try:
                    self._answer(number)
                except ConnectionError:
                    self._poll.unregister(number)
                    self._rest.pop(number, None)
                    self._connections.pop(number).close()

    def _accept(self) -> None:
        sock, _ = self._listener.accept()
        sock.setblocking(False)
        self._connections[sock.fileno()] = sock
        self._poll.register(sock, select.EPOLLIN)

    def _answer(self, number: int) -> None:
        sock = self._connections[number]
        rest = self._rest.pop(number, None)
        waited = rest is not None
        if rest is None:
            if not sock.recv(65536):
                raise ConnectionResetError
            rest = memoryview(RESPONSE)
        with contextlib.suppress(BlockingIOError):
            rest = rest[sock.send(rest) :]
        if rest:
            self._rest[number] = rest
        if bool(rest) != waited:
            self._poll.modify(number, select.EPOLLOUT if rest else select.EPOLLIN)


if __name__ == "__main__":
    host, port = sys.argv[1].split(":")
    Loop(socket.create_server((host, int(port)), backlog=4096)).run()
