"""A real ZEO server for tests, and a proxy that delays, cuts and counts what passes to it.

Runs in the process of the tests, which is never monkey-patched.
"""

import contextlib
import json
import os
import signal
import socket
import struct
import sys
import threading
import time
from collections import deque
from io import BufferedReader
from pathlib import Path
from types import TracebackType

from nti.appserver.testing.process import (
    PATIENCE_SECONDS,
    STARTING_SECONDS,
    ServerProcess,
    free_port,
    temporary_folder,
    wait_until,
)

CHUNK_BYTES = 65536


class ZEOServer(ServerProcess):
    """`runzeo` with a FileStorage and blobs in a folder, on a free loopback port.

    :param folder: of Data.fs, blobs and the log; a new temporary one when not given.
    :param options: more lines of the configuration's `<zeo>` section.
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None, options: str = "") -> None:
        where = Path(folder) if folder is not None else temporary_folder("zeo-")
        where.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        config = where / "zeo.conf"
        config.write_text(
            f"<zeo>\n  address 127.0.0.1:{self.port}\n  invalidation-queue-size 1000\n"
            f"{options}\n</zeo>\n"
            f"<filestorage 1>\n  path {where}/Data.fs\n  blob-dir {where}/blobs\n</filestorage>\n"
        )
        super().__init__([sys.executable, "-m", "ZEO.runzeo", "-C", str(config)], cwd=where)

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self.port

    @property
    def uri(self) -> str:
        """As `open_database` takes it; `?` and options may follow."""
        return f"zeo://127.0.0.1:{self.port}"

    def start(self) -> "ZEOServer":
        """Start, also again after `kill`; returns when connections are accepted."""
        super().start()
        wait_until(self._listens, "the ZEO server listens", seconds=STARTING_SECONDS)
        return self

    def _listens(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.output()
        with contextlib.suppress(OSError):
            socket.create_connection(self.address, 5).close()
            return True
        return False

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.stop(signal.SIGKILL)

    def __enter__(self) -> "ZEOServer":
        return self.start()


def clients_of(address: tuple[str, int] | str) -> int:
    """How many clients a ZEO server counts, by its own word; who asks is none of them.

    :param address: host and port, or the path of a unix socket.
    """
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family) as asking:
        asking.settimeout(PATIENCE_SECONDS)
        asking.connect(address)
        asking.sendall(_sized(b"ruok"))
        stream = asking.makefile("rb")
        with stream:
            _greeting, status = _message(stream), _message(stream)
    return sum(storage["connections"] for storage in json.loads(status).values())


def _sized(message: bytes) -> bytes:
    return struct.pack(">I", len(message)) + message


def _message(stream: BufferedReader) -> bytes:
    (size,) = struct.unpack(">I", stream.read(4))
    return stream.read(size)


class Proxy:
    """A TCP proxy on loopback that holds each piece for a time, half of a round trip.

    :param target: where connections go.
    :param delay: seconds, >= 0, for each direction.
    """

    def __init__(self, target: tuple[str, int], delay: float = 0.0) -> None:
        self.target = target
        self.delay = delay
        #: While set nothing passes, and connections stay as they are: a network that is cut.
        self.cut = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = []
        self._closed = False

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", int(self._listener.getsockname()[1])

    @property
    def uri(self) -> str:
        return f"zeo://127.0.0.1:{self.address[1]}"

    @property
    def connections(self) -> int:
        """How many connections are open through it."""
        return sum(each.fileno() != -1 for each in self._sockets) // 2

    def __enter__(self) -> "Proxy":
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closed = True
        for each in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self.target, 5)
                server.settimeout(None)
            except OSError:
                client.close()
                continue
            for each in (client, server):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._sockets += [client, server]
            for ends in ((client, server), (server, client)):
                threading.Thread(target=self._pass, args=ends, daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        pieces: deque[tuple[float, bytes]] = deque()
        more = threading.Semaphore(0)
        threading.Thread(target=self._send, args=(pieces, more, sink), daemon=True).start()
        data = b"start"
        while data:
            try:
                data = source.recv(CHUNK_BYTES)
            except OSError:
                data = b""
            pieces.append((time.monotonic() + self.delay, data))
            more.release()

    def _send(
        self, pieces: deque[tuple[float, bytes]], more: threading.Semaphore, sink: socket.socket
    ) -> None:
        while True:
            more.acquire()
            when, data = pieces.popleft()
            time.sleep(max(0.0, when - time.monotonic()))
            while self.cut.is_set() and not self._closed:
                time.sleep(0.01)
            try:
                if not data:
                    break
                sink.sendall(data)
            except OSError:
                break
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)
        sink.close()
