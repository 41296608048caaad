"""Every configuration that faces clients, as one row of a table, and how to ask it.

A row says what the front can do; the checks choose rows by that. Runs in the
process of the tests.
"""

import contextlib
import json
import socket
import ssl
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPResponse, HTTPSConnection
from pathlib import Path
from typing import Any

from nti.appserver.testing.process import ServerProcess, free_port, wait_until
from nti.appserver.testing.socketio import SocketIO
from nti.appserver.testing.websocket import WebSocket
from tests.deploy import programs

#: The client comes from here, so that it cannot be taken for a proxy.
CLIENT = "127.0.0.9"

#: The longest silence that the fronts allow, seconds: the templates' default.
TIMEOUT = 60

#: The time between the server's pings, seconds; by default 25.
PING = 2


@dataclass
class Site:
    """What the fronts stand before: two application servers, files, a certificate.

    :param apps: gunicorn on TCP and on a unix socket, by their variants' names.
    :param addresses: theirs, as the option --app takes them.
    :param static: the port of the nginx that serves files to HAProxy and Pound.
    :param tls: the certificate's options.
    :param timeout: the longest silence that the fronts allow, seconds.
    """

    folder: Path
    root: Path
    apps: dict[str, programs.Gunicorn]
    addresses: dict[str, str]
    static: int
    tls: dict[str, str]
    timeout: float = TIMEOUT

    @property
    def context(self) -> ssl.SSLContext:
        """Trusts the site's certificate."""
        return ssl.create_default_context(cafile=self.tls["certificate"])


@dataclass(frozen=True)
class Kind:
    """A row of the table.

    :param app: the application servers behind it, by the variants' names.
    :param start: makes the programs, the one that clients meet first at last.
    :param tls: clients speak TLS to it.
    :param files: serves the folder of static files too, and is an edge: a proxy.
    :param catches: serves every path that is no file from the application.
    :param streams: passes each chunk of a response on at once.
    :param http2: offers HTTP/2 to clients.
    """

    name: str
    app: tuple[str, ...]
    start: Callable[["Front"], Iterable[ServerProcess]]
    tls: bool = False
    files: bool = True
    catches: bool = False
    streams: bool = True
    http2: bool = False


class Front:
    """One running front.

    :param kind: its row.
    """

    def __init__(self, kind: Kind, site: Site) -> None:
        self.kind = kind
        self.site = site
        self.folder = site.folder / kind.name.replace(" ", "-")
        self.folder.mkdir()
        #: Where clients ask, and where plain HTTP is taken beside TLS.
        self.port = free_port()
        self.plain = free_port() if kind.tls else self.port
        self._context = site.context if kind.tls else None

    def start(self, stack: contextlib.ExitStack) -> "Front":
        """Start the programs on this stack; fail with the output of one that has ended."""
        started = [stack.enter_context(process) for process in self.kind.start(self)]

        def listens() -> bool:
            for process in started:
                assert process.process is not None
                assert process.process.poll() is None, process.output()
            return all(map(programs.listening, {self.plain, self.port}))

        wait_until(listens, f"{self.kind.name} listens")
        return self

    @property
    def app(self) -> list[str]:
        return [self.site.addresses[name] for name in self.kind.app]

    @property
    def url(self) -> str:
        return f"{'https' if self.kind.tls else 'http'}://127.0.0.1:{self.port}"

    def connection(self, timeout: float = 20) -> HTTPConnection:
        """A new one, not yet open."""
        source = (CLIENT, 0)
        if self._context is None:
            return HTTPConnection("127.0.0.1", self.port, timeout, source)
        return HTTPSConnection(
            "127.0.0.1", self.port, timeout=timeout, source_address=source, context=self._context
        )

    def ask(
        self,
        path: str,
        headers: Mapping[str, str] | None = None,
        *,
        body: Iterable[bytes] | None = None,
        timeout: float = 20,
    ) -> tuple[HTTPResponse, bytes]:
        """One request on a connection of its own; a POST in chunks where there is a body."""
        with contextlib.closing(self.connection(timeout)) as connection:
            headers = dict(headers or {})
            if body is None:
                connection.request("GET", path, headers=headers)
            else:
                headers["Transfer-Encoding"] = "chunked"
                connection.request("POST", path, body, headers, encode_chunked=True)
            response = connection.getresponse()
            return response, response.read()

    def seen(
        self,
        headers: Mapping[str, str] | None = None,
        *,
        body: Iterable[bytes] | None = None,
        path: str = "/dataserver2/x",
    ) -> dict[str, Any]:
        """What the application saw of a request."""
        response, text = self.ask(path, headers, body=body)
        assert response.status == 200, text
        found: dict[str, Any] = json.loads(text)
        return found

    def websocket(self) -> WebSocket:
        return WebSocket(
            f"ws{self.url.removeprefix('http')}/dataserver2/socket",
            context=self._context,
            source_address=(CLIENT, 0),
        )

    def socketio(self, transport: str, source: str = CLIENT) -> SocketIO:
        """A client in the site's chat, of a page that the front has served.

        :param source: the client's address.
        """
        return SocketIO(
            self.url,
            transport=transport,
            headers=[("Origin", self.url)],
            context=self._context,
            source_address=(source, 0),
        )

    def raw(self, request: bytes) -> bytes:
        """The bytes that answer these bytes, until the front closes."""
        with socket.create_connection(("127.0.0.1", self.port), 20, (CLIENT, 0)) as plain:
            wrap = self._context.wrap_socket if self._context else None
            connection = wrap(plain, server_hostname="127.0.0.1") if wrap else plain
            with connection:
                connection.sendall(request)
                pieces = []
                while piece := connection.recv(65536):
                    pieces.append(piece)
                return b"".join(pieces)

    # -- what the templates are told

    def here(self) -> dict[str, str]:
        """The front's own addresses, as the options http and https."""
        return {"http": f"127.0.0.1:{self.plain}"} | (
            {"https": f"127.0.0.1:{self.port}"} if self.kind.tls else {}
        )

    def behind(self) -> dict[str, object]:
        """The application, and the pace of this test."""
        return {"app": self.app, "timeout": self.site.timeout, "ping_interval": PING}

    def beside(self) -> dict[str, object]:
        """Those, and the nginx with the files."""
        return {**self.behind(), "static": f"127.0.0.1:{self.site.static}"}


def _nginx(variant: str) -> Callable[[Front], Iterable[ServerProcess]]:
    def start(front: Front) -> Iterable[ServerProcess]:
        tls = {name: front.site.tls[name] for name in ("certificate", "key")}
        extra = {**tls, "nginx_version": programs.nginx_version()} if front.kind.tls else {}
        yield programs.nginx(
            front.folder / "nginx",
            variant,
            root=front.site.root,
            server_name="localhost",
            **front.here(),
            **front.behind(),
            **extra,
        )

    return start


def haproxy(variant: str) -> Callable[[Front], Iterable[ServerProcess]]:
    def start(front: Front) -> Iterable[ServerProcess]:
        own = {"connections": 500, **front.here(), **front.beside()}
        if front.kind.tls:
            own["combined"] = front.site.tls["combined"]
        yield programs.haproxy(front.folder / "haproxy", variant, **own)

    return start


def _stunnel(front: Front) -> Iterable[ServerProcess]:
    between = f"127.0.0.1:{free_port()}"
    own = {"connections": 500, "http": f"127.0.0.1:{front.plain}", **front.beside()}
    yield programs.haproxy(front.folder / "haproxy", "stunnel", from_stunnel=between, **own)
    yield programs.stunnel(
        front.folder / "stunnel",
        https=f"127.0.0.1:{front.port}",
        from_stunnel=between,
        combined=front.site.tls["combined"],
    )


def _pound(variant: str) -> Callable[[Front], Iterable[ServerProcess]]:
    def start(front: Front) -> Iterable[ServerProcess]:
        own = {**front.here(), **front.beside()}
        if front.kind.tls:
            own |= {"combined": front.site.tls["combined"], "server_name": "localhost"}
        yield programs.pound(front.folder / "pound", variant, **own)

    return start


def _none(front: Front) -> Iterable[ServerProcess]:
    """gunicorn itself: its port is the front's."""
    front.port = front.plain = int(front.app[0].rpartition(":")[2])
    return ()


FRONTS: tuple[Kind, ...] = (
    Kind("nginx implicit", ("tcp",), _nginx("implicit"), catches=True),
    Kind("nginx explicit", ("unix",), _nginx("explicit")),
    Kind("nginx complete", ("tcp",), _nginx("complete"), tls=True, catches=True, http2=True),
    Kind("haproxy plain", ("unix",), haproxy("plain")),
    Kind("haproxy tls", ("tcp",), haproxy("tls"), tls=True, http2=True),
    Kind("haproxy stunnel", ("tcp",), _stunnel, tls=True),
    Kind("haproxy several", ("tcp", "unix"), haproxy("several"), tls=True, http2=True),
    Kind("pound plain", ("tcp",), _pound("plain"), streams=False),
    Kind("pound tls", ("tcp",), _pound("tls"), tls=True, streams=False),
    Kind("gunicorn tcp", ("tcp",), _none, files=False, catches=True),
)
