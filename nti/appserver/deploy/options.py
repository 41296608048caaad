"""The options that templates take: one table, each row with its default and what it means.

The command line, the checks of values and the reference page are made from
`OPTIONS`. Values end up in configuration files, so every kind accepts only
characters that no system gives a meaning of its own: a value can never end a
line, a quotation or a block. Nothing here waits or switches.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nti.appserver.errors import ConfigurationError
from nti.appserver.settings import Kind, seconds, whole


@dataclass(frozen=True)
class Address:
    """Where a server listens or is reached: host and port, or a unix socket's path.

    `host` is empty for every address of the machine; `path` is empty for TCP.
    """

    host: str = ""
    port: int = 0
    path: str = ""

    @property
    def tcp(self) -> str:
        """`host:port`, or `:port` for every address."""
        return f"{self.host}:{self.port}"

    @property
    def short(self) -> str:
        """`host:port`, or the bare port for every address, as nginx and stunnel listen."""
        return self.tcp if self.host else str(self.port)

    @property
    def url(self) -> str:
        """As nginx and gunicorn write it: `host:port` or `unix:/path`."""
        return f"unix:{self.path}" if self.path else self.tcp

    @property
    def haproxy(self) -> str:
        """As HAProxy writes it: `host:port` or `unix@/path`."""
        return f"unix@{self.path}" if self.path else self.tcp


@dataclass(frozen=True)
class Option:
    """One option of the templates.

    :param name: as the templates write it; dashes for underscores on the command line.
    :param default: as text, as an operator would give it.
    :param many: may be given several times; the value is a tuple.
    """

    name: str
    default: str
    kind: Kind
    doc: str
    many: bool = False

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def metavar(self) -> str:
        """What stands for the value in the command's help."""
        return _METAVARS.get(self.kind, "NUMBER")

    def parse(self, value: object) -> Any:
        """The checked value of what was given.

        :param value: text, a number, or a sequence of them where `many`; then a text
            may hold several with blanks between.
        :raises ConfigurationError: names the option, what was seen and what was expected.
        """
        if not self.many:
            return self._parse_one(value)
        given = value if isinstance(value, list | tuple) else [value]
        words = [word for each in given for word in str(each).split()]
        return tuple(map(self._parse_one, words))

    def _parse_one(self, value: object) -> Any:
        text = str(value).strip()
        try:
            return self.kind.parse(text)
        except ValueError:
            raise ConfigurationError(f"{self.flag} is {text!r}", self.kind.expected) from None


def _matching(pattern: str, expected: str) -> Kind:
    def parse(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(text)
        return text

    return Kind(parse, expected)


def _tcp(text: str) -> Address:
    host, colon, port = text.rpartition(":")
    if colon and not re.fullmatch(r"[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\]", host):
        raise ValueError(text)
    if not port.isascii() or not port.isdigit() or not 1 <= int(port) <= 65535:
        raise ValueError(text)
    return Address(host, int(port))


def _backend(text: str) -> Address:
    if text.startswith("unix:"):
        return Address(path=PATH.parse(text.removeprefix("unix:")))
    address = _tcp(text)
    if not address.host:
        raise ValueError(text)
    return address


def _version(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(".")))


def _network(text: str) -> str:
    from ipaddress import ip_network

    return "*" if text == "*" else str(ip_network(text)).removesuffix("/32").removesuffix("/128")


NAME = _matching(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?", "a host name such as example.com")
USER = _matching(r"[a-z_][a-z0-9_-]*", "a user or group name of the system, such as nti")
PATH = _matching(r"/[A-Za-z0-9_./@+-]*", "an absolute path of letters, digits and _ . / @ + -")
LISTEN = Kind(_tcp, "a port, or ADDRESS:PORT, such as 80, 127.0.0.1:8080 or [::]:80")
BACKEND = Kind(_backend, "HOST:PORT or unix:/path, such as 127.0.0.1:8081")
MODULE = _matching(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", "module:name")
SIZE = _matching(r"[1-9][0-9]*[km]?", "bytes such as 65536, 512k or 10m")
VERSION = Kind(_version, "a version such as 1.22.1")
NETWORK = Kind(_network, "an IP address, a network such as 10.0.0.0/24, or *")

PORTS_KEPT_OPEN = whole(1, 1_000_000)
TIMEOUT = seconds(1, 86_400)
PING_INTERVAL = seconds(1, 3600)

_METAVARS: dict[Kind, str] = {
    NAME: "NAME",
    USER: "NAME",
    PATH: "PATH",
    LISTEN: "[ADDRESS:]PORT",
    BACKEND: "HOST:PORT|unix:PATH",
    MODULE: "MODULE:NAME",
    SIZE: "BYTES",
    VERSION: "VERSION",
    NETWORK: "ADDRESS",
    TIMEOUT: "SECONDS",
    PING_INTERVAL: "SECONDS",
}

OPTIONS: tuple[Option, ...] = (
    Option("server_name", "example.com", NAME, "The site's host name."),
    Option("http", "80", LISTEN, "Where the front takes plain HTTP."),
    Option("https", "443", LISTEN, "Where the front takes TLS."),
    Option("from_stunnel", "127.0.0.1:8442", LISTEN, "Where HAProxy takes what stunnel decrypted."),
    Option("static", "127.0.0.1:8080", LISTEN, "Where nginx serves static files to another front."),
    Option(
        "app",
        "127.0.0.1:8081",
        BACKEND,
        "Where the application server listens; several where there are several machines.",
        many=True,
    ),
    Option("root", "/srv/www", PATH, "The folder of static files."),
    Option("certificate", "/etc/ssl/nti/server.crt", PATH, "The certificate with its chain, PEM."),
    Option("key", "/etc/ssl/nti/server.key", PATH, "The certificate's private key, PEM."),
    Option("combined", "/etc/ssl/nti/srv_comb.pem", PATH, "Certificate and key in one file, PEM."),
    Option(
        "timeout",
        "60",
        TIMEOUT,
        "The longest silence that a front allows on a request, in seconds; "
        "above ping_interval, or long polls are cut.",
    ),
    Option("ping_interval", "25", PING_INTERVAL, "The server's setting of that name, seconds."),
    Option("max_body", "10m", SIZE, "The largest request body."),
    Option("connections", "16384", PORTS_KEPT_OPEN, "Connections that the front keeps open."),
    Option("nginx_version", "1.22", VERSION, "The nginx that will read the file: `nginx -v`."),
    Option("nginx_user", "www-data", USER, "The user of nginx's workers."),
    Option("nginx_log", "/var/log/nginx/nti-appserver.log", PATH, "nginx's access log."),
    Option("mime_types", "/etc/nginx/mime.types", PATH, "nginx's table of content types."),
    Option("prefix", "/opt/nti", PATH, "The virtual environment that the package is installed in."),
    Option("config", "/etc/nti-appserver/gunicorn.conf.py", PATH, "gunicorn's configuration file."),
    Option("var", "/var/lib/nti-appserver", PATH, "The folder for data, as the setting `var`."),
    Option("socket", "/run/nti-appserver.sock", PATH, "The unix socket of the variant `unix`."),
    Option("listen", "127.0.0.1:8081", LISTEN, "Where the application server listens."),
    Option("user", "nti", USER, "The user that the server runs as."),
    Option("group", "nti", USER, "The group that the server runs as."),
    Option("socket_group", "www-data", USER, "The group of the front, which may use the socket."),
    Option("application", "nti.appserver.gunicorn:app", MODULE, "What gunicorn serves."),
    Option("workers", "2", whole(1, 1024), "Worker processes; one for each core is usual."),
    Option(
        "worker_connections",
        "1000",
        PORTS_KEPT_OPEN,
        "Requests that one worker handles at a time.",
    ),
    Option("graceful_timeout", "30", whole(1, 3600), "How long a worker may drain, in seconds."),
    Option(
        "proxies",
        "127.0.0.1 ::1",
        NETWORK,
        "Addresses whose X-Forwarded-For and X-Forwarded-Proto are believed.",
        many=True,
    ),
    Option("open_files", "65536", whole(1024, 1 << 30), "Descriptors that the service may hold."),
    Option("log_dir", "/var/log/nti-appserver", PATH, "The folder of the server's own log files."),
)


def by_name() -> dict[str, Option]:
    """The table, keyed by the options' names."""
    return {option.name: option for option in OPTIONS}


def check_together(values: dict[str, Any], error: Callable[[str, str, str], Exception]) -> None:
    """Refuse values that are right alone and wrong together.

    :raises Exception: what `error(seen, expected, mend)` makes.
    """
    timeout, ping = values.get("timeout"), values.get("ping_interval")
    if timeout is not None and ping is not None and timeout <= ping:
        raise error(
            f"--timeout is {timeout:g} with --ping-interval {ping:g}",
            "a timeout above the ping interval: a long poll is silent for that long",
            f"give --timeout {ping * 2:g} or more",
        )
