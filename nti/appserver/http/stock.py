"""Requests that gunicorn's own parser must judge.

Everything unusual comes here with its bytes unread: chunked bodies,
expectations, the PROXY and uwsgi protocols, odd targets, and whatever is wrong.
The parser is pinned to gunicorn's Python one: how strict we are does not depend
on what happens to be installed.

`judge` and `asked` run on the hub and never wait: they parse what has come so far
with a reader that gives up where it would have to wait. The rest runs in greenlets.
"""

import copy
import os
from time import monotonic
from typing import Any

from gunicorn.config import ForwarderHeaders
from gunicorn.http import get_parser
from gunicorn.http.unreader import Unreader

from nti.appserver.http.connection import RECEIVE_SIZE, Connection
from nti.appserver.http.deadlines import NEVER
from nti.appserver.http.patience import Patience

#: Read ahead of the application in a body. gunicorn copies what is left over with each read.
BODY_PIECE = 256 * 1024


class Incomplete(Exception):
    """The parser wants bytes that have not come yet."""


class _Held(Unreader):  # type: ignore[misc]
    """Reads what has come so far."""

    def chunk(self, size_hint: int | None = None) -> bytes:
        raise Incomplete


class ConnectionUnreader(Unreader):  # type: ignore[misc]
    """Reads on from a connection: a head within its time, a body as long as there is patience.

    :param data: what was read from it already.
    """

    def __init__(self, conn: Connection, data: bytes) -> None:
        super().__init__()
        self._conn = conn
        settings = conn.listener.server.settings
        self._patience = Patience(settings.body_timeout, settings.body_rate)
        #: When all of a head must have come, on the monotonic clock.
        self.head_until = NEVER
        #: Whether waiting for a body was broken off, as by a gevent.Timeout of the application's.
        self.broken_off = False
        self.unread(data)

    def chunk(self, size_hint: int | None = None) -> bytes:
        """The next bytes; b"" at the end of the stream.

        :raises TimeoutError: nothing, or too little, came in time.
        """
        size = min(max(RECEIVE_SIZE, size_hint or 0), BODY_PIECE)
        if self.head_until == NEVER:
            began, before = monotonic(), self.broken_off
            self.broken_off = True
            data = self._conn.receive(size, self._patience.left)
            self.broken_off = before
            self._patience.waited(began, len(data))
            return data
        left = self.head_until - monotonic()
        if left <= 0:
            raise TimeoutError("the head was not sent in time")
        return self._conn.receive(size, left)

    def head_came(self) -> None:
        """The rest is a body."""
        self.head_until = NEVER


def distrust_defaults(cfg: Any) -> None:
    """Change this worker's configuration: no peer may name SCRIPT_NAME unless the user says so.

    gunicorn's default lets a trusted proxy do that by a header of this name. A
    proxy that passes such names on from clients (HAProxy does) then lets them
    choose which part of the path its rules see and the application does not.
    PATH_INFO, the other name in the default, has no effect in gunicorn.
    """
    setting = cfg.settings["forwarder_headers"]
    if setting.get() == ForwarderHeaders().get():
        cfg.set("forwarder_headers", "")


def pinned(cfg: Any, *, schemes: bool) -> Any:
    """gunicorn's configuration with its Python parser.

    :param schemes: whether headers of trusted peers may name the scheme.
    """
    cfg = copy.copy(cfg)
    cfg.settings = dict(cfg.settings)
    changes = (
        {"http_parser": "python"}
        if schemes
        else {
            "http_parser": "python",
            "secure_scheme_headers": {},
        }
    )
    for name, value in changes.items():
        cfg.settings[name] = setting = copy.copy(cfg.settings[name])
        setting.value = value
    return cfg


def parser(cfg: Any, conn: Connection, sock: Any, data: bytes) -> Any:
    """gunicorn's parser for a connection's next request, its head to come in `head_timeout`."""
    made = get_parser(cfg, sock, conn.peer)
    made.unreader = ConnectionUnreader(conn, data)
    made.unreader.head_until = monotonic() + conn.listener.server.settings.head_timeout
    made.req_count = int(conn.seen)
    return made


def endpoints(info: dict[str, Any], conn: Connection) -> dict[str, Any]:
    """What the PROXY protocol said; where it names nobody, the connection's own two ends.

    So the protocol has it for LOCAL, by which a proxy asks for itself (section 2.2).
    gunicorn puts None into environ.
    """
    if info["client_addr"] is not None:
        return info
    client, server = conn.peer, conn.listener.name
    ends = [end[:2] if isinstance(end, tuple) else ("", "") for end in (client, server)]
    (client_addr, client_port), (proxy_addr, proxy_port) = ends
    return {
        "proxy_protocol": info["proxy_protocol"],
        "client_addr": client_addr,
        "client_port": client_port,
        "proxy_addr": proxy_addr,
        "proxy_port": proxy_port,
    }


def judge(cfg: Any, conn: Connection, data: bytes) -> bool:
    """Whether gunicorn's parser has seen enough: a whole head, or a fault in it."""
    try:
        _parsed(cfg, conn, data)
    except Incomplete:
        return False
    except Exception:
        return True  # the greenlet that serves meets it again, and answers
    return True


def asked(cfg: Any, conn: Connection, data: bytes) -> tuple[str, str]:
    """The method and path of the request that `data` begins; empty where none can be told.

    The path is the application's, below a mount point that gunicorn's environment names.
    """
    try:
        request = _parsed(cfg, conn, data)
    except Exception:
        return "", ""
    return request.method, request.path.removeprefix(os.environ.get("SCRIPT_NAME", ""))


def _parsed(cfg: Any, conn: Connection, data: bytes) -> Any:
    """The request that has come; raises what gunicorn's parser does, or `Incomplete`."""
    made = get_parser(cfg, (), conn.peer)
    made.unreader = _Held()
    made.unreader.unread(data)
    made.req_count = int(conn.seen)
    return next(made)
