"""A client that sends exactly the bytes it is told to, and reads one response at a time."""

import contextlib
import socket
import ssl
from dataclasses import dataclass
from types import TracebackType

from nti.appserver.testing.process import PATIENCE_SECONDS, GunicornProcess


@dataclass
class Answer:
    """One response; names of headers are in small letters."""

    status: int
    headers: dict[str, str]
    body: bytes


class Client:
    """One connection, TCP or unix, plain or TLS; a context manager.

    :param address: (host, port), or the path of a unix socket.
    """

    def __init__(
        self, address: tuple[str, int] | str, context: ssl.SSLContext | None = None
    ) -> None:
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self.socket = socket.socket(family)
        self.socket.settimeout(PATIENCE_SECONDS)
        self.socket.connect(address)
        if context is not None:
            self.socket = context.wrap_socket(self.socket, server_hostname="localhost")
        self._file = self.socket.makefile("rb")

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def ask(self, path: str, *fields: str, method: str = "GET", body: bytes = b"") -> Answer:
        """Send a request and read its response."""
        lines = [f"{method} {path} HTTP/1.1", "Host: example.org:81", *fields]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        self.send("\r\n".join([*lines, "", ""]).encode() + body)
        return self.answer(bodiless=method == "HEAD")

    def answer(self, *, bodiless: bool = False) -> Answer:
        """Read a response; `bodiless`: it answers HEAD."""
        words = self._file.readline().split(b" ", 2)
        assert len(words) == 3, f"not a status line: {words!r}"
        status, headers = int(words[1]), self._headers()
        if bodiless or status in (204, 304) or status < 200:
            body = b""
        elif headers.get("transfer-encoding") == "chunked":
            body = self._chunks()
        elif "content-length" in headers:
            body = self._file.read(int(headers["content-length"]))
        else:
            body = self._file.read()
        return Answer(status, headers, body)

    def ended(self) -> bool:
        """Wait for what comes next: whether it is the end."""
        try:
            return self._file.read(1) == b""
        except ConnectionResetError:
            return True

    def _headers(self) -> dict[str, str]:
        headers: dict[str, str] = {}
        while (line := self._file.readline().decode("latin-1").rstrip("\r\n")) != "":
            name, _, value = line.partition(":")
            assert name.lower() not in headers, f"twice: {line}"
            headers[name.lower()] = value.strip()
        return headers

    def _chunks(self) -> bytes:
        body = b""
        while size := int(self._file.readline(), 16):
            body += self._file.read(size)
            assert self._file.readline() == b"\r\n"
        assert self._file.readline() == b"\r\n"
        return body


def connect(server: GunicornProcess, context: ssl.SSLContext | None = None) -> Client:
    """A connection to a server's TCP port."""
    return Client(("127.0.0.1", server.port), context)


def slow_reader(server: GunicornProcess) -> Client:
    """A connection whose kernel takes little before somebody reads."""
    client = Client.__new__(Client)
    client.socket = socket.socket()
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.socket.settimeout(30)
    client.socket.connect(("127.0.0.1", server.port))
    client._file = client.socket.makefile("rb", 4096)
    return client


def rest(client: Client) -> bytes:
    """What comes before the connection ends, in whatever way."""
    came = b""
    with contextlib.suppress(ConnectionResetError):
        while data := client.socket.recv(1000):
            came += data
    return came
