"""Asking a URL as a reader's browser would: HTTP, TLS, WebSockets.

Blocking sockets with a deadline for each answer. Certificates are judged by
their own check, so that a bad one does not hide everything behind it.
"""

import http.client
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult

from websockets.client import ClientProtocol
from websockets.datastructures import Headers
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.uri import parse_uri

#: Bytes of a body that are read.
BODY = 64 * 1024


@dataclass(frozen=True)
class Answer:
    """An HTTP response.

    :param here: the address from which it was asked, as this machine has it.
    """

    status: int
    text: str
    headers: Mapping[str, str]
    here: tuple[str, int]


def unverified() -> ssl.SSLContext:
    """A context that takes any certificate."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def port_of(url: SplitResult) -> int:
    """The port of a URL, also where it does not say."""
    return url.port or (443 if url.scheme == "https" else 80)


def ask(
    url: SplitResult,
    target: str,
    patience: float,
    *,
    method: str = "GET",
    body: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """One request on a connection of its own.

    :param target: path and query at the URL's host.
    :raises OSError: no answer, or none in time.
    """
    connection: http.client.HTTPConnection
    host = url.hostname or ""
    if url.scheme == "https":
        connection = http.client.HTTPSConnection(
            host, port_of(url), timeout=patience, context=unverified()
        )
    else:
        connection = http.client.HTTPConnection(host, port_of(url), timeout=patience)
    try:
        connection.connect()
        here = connection.sock.getsockname()[:2]
        connection.request(method, target, body, dict(headers or {}))
        response = connection.getresponse()
        text = response.read(BODY).decode("utf-8", "replace")
        return Answer(response.status, text, dict(response.getheaders()), here)
    except http.client.HTTPException as problem:
        raise OSError(f"no HTTP answer: {problem!r}") from None
    finally:
        connection.close()


class NotUpgraded(Exception):
    """The answer to a WebSocket handshake was not 101.

    :param status: of the answer; 0: there was none.
    """

    def __init__(self, status: int, text: str) -> None:
        self.status = status
        self.text = text
        super().__init__(f"{status}: {text}")


class WebSocket:
    """A WebSocket, open when the constructor returns; use it as a context manager.

    :raises NotUpgraded: the server, or something on the way, did not agree to it.
    :raises OSError: no answer, or none in time.
    """

    def __init__(self, url: SplitResult, target: str, patience: float) -> None:
        scheme = "wss" if url.scheme == "https" else "ws"
        uri = parse_uri(f"{scheme}://{url.netloc}{target}")
        self._protocol = ClientProtocol(uri)
        self._messages: list[str] = []
        self._response: Response | None = None
        self._socket = socket.create_connection((url.hostname or "", port_of(url)), patience)
        try:
            if url.scheme == "https":
                self._socket = unverified().wrap_socket(self._socket, server_hostname=url.hostname)
            request = self._protocol.connect()
            request.headers["Origin"] = f"{url.scheme}://{url.netloc}"
            self._protocol.send_request(request)
            self._shake()
        except BaseException:
            self._socket.close()
            raise

    def _shake(self) -> None:
        self._write()
        while self._response is None:
            if not self._read():
                raise NotUpgraded(0, "the connection was closed")
        if self._response.status_code != 101:
            body = bytes(self._response.body or b"").decode("utf-8", "replace")
            raise NotUpgraded(self._response.status_code, body)

    @property
    def headers(self) -> Headers:
        """Of the 101 response."""
        assert self._response is not None
        return self._response.headers

    def send(self, text: str) -> None:
        """Send a text message."""
        self._protocol.send_text(text.encode())
        self._write()

    def receive(self) -> str:
        """The next text message.

        :raises OSError: the WebSocket ended, or nothing came in time.
        """
        while not self._messages:
            if not self._read():
                raise OSError("the WebSocket was closed")
        return self._messages.pop(0)

    def _write(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                self._socket.sendall(data)

    def _read(self) -> bool:
        data = self._socket.recv(BODY)
        if data:
            self._protocol.receive_data(data)
        else:
            self._protocol.receive_eof()
        self._write()
        for event in self._protocol.events_received():
            self._take(event)
        refused = self._protocol.handshake_exc
        if refused is not None and self._response is None:
            raise NotUpgraded(0, str(refused))
        return bool(data)

    def _take(self, event: Any) -> None:
        if isinstance(event, Response):
            self._response = event
        elif isinstance(event, Frame) and event.opcode is Opcode.TEXT:
            self._messages.append(bytes(event.data).decode("utf-8", "replace"))

    def __enter__(self) -> "WebSocket":
        return self

    def __exit__(self, *failure: object) -> None:
        self._socket.close()
