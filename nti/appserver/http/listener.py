"""One listening socket of a worker: accepting, and what its connections share.

Accepting runs on the hub and must not switch.
"""

import _socket
import os
from time import monotonic
from typing import Any

from gunicorn.http.wsgi import WSGIErrorsWrapper, base_environ
from gunicorn.http2 import negotiation

from nti.appserver.http import stock, tls
from nti.appserver.http.client import ClientSource, Trust
from nti.appserver.http.connection import HEAD_SIZE, MORE, PARKED, READ, Connection, switcher
from nti.appserver.http.head import HeadParser
from nti.appserver.http.sharing import PAUSE_SECONDS as TURN_SECONDS
from nti.appserver.http.sharing import Share

#: Connections accepted in one turn of the loop, where this worker is the only one.
BATCH = 64

#: How long not to accept after it failed, for want of descriptors for example.
PAUSE_SECONDS = 0.1


class Errors(WSGIErrorsWrapper):  # type: ignore[misc]
    """`wsgi.errors`, made once; it follows the log file when that is opened anew."""

    def __init__(self, cfg: Any) -> None:
        self._cfg = cfg

    @property
    def streams(self) -> Any:
        return WSGIErrorsWrapper(self._cfg).streams


class Listener:
    """A listening socket and the connections that come by it.

    :param server: the `HTTPServer`.
    :param sock: gevent's socket, as the worker has it.
    :param context: for TLS.
    """

    def __init__(self, server: Any, sock: Any, context: Any) -> None:
        cfg, settings = server.worker.cfg, server.settings
        self.server = server
        self.sock = sock
        self.tls = context
        self.loop = server.loop
        self.to_hub = switcher(server.hub)
        #: As gunicorn sees it: (host, port), or the path of a unix socket.
        self.name = sock.getsockname()
        #: Whether it is a unix socket with a path that gunicorn does not take for an address.
        self.unix = isinstance(self.name, str) and ":" not in self.name
        #: Whether streamed pieces may share segments: plain TCP, where the system can do it.
        self.corks = bool(MORE) and isinstance(self.name, tuple) and context is None
        #: The files of large bodies, where they may be sent: TLS has to encrypt what it sends.
        self.body_files = server.body_files if context is None else None
        self.errors = Errors(cfg)
        trust = Trust(cfg)
        schemes = settings.client_source == "x-forwarded-for"
        self.pinned = stock.pinned(cfg, schemes=schemes)
        self.source = ClientSource(settings.client_source, trust)
        scheme = "https" if cfg.is_ssl else "http"
        self.heads = {
            trusted: HeadParser(self.pinned, trusted=trusted, scheme=scheme)
            for trusted in (False, True)
        }
        # A mount point, another protocol, a socket in the abstract namespace: gunicorn's code.
        self.fast = (
            cfg.protocol == "http"
            and not os.environ.get("SCRIPT_NAME")
            and (isinstance(self.name, tuple) or self.unix)
        )
        #: Whether the first bytes of a connection are a request, no PROXY header.
        self.fast_first = cfg.proxy_protocol == "off"
        self._trust = trust
        self._trusted: dict[Any, bool] = {}
        self._template = {
            **base_environ(cfg),
            "wsgi.errors": self.errors,
            "wsgi.multithread": True,
            "wsgi.url_scheme": scheme,
            "SCRIPT_NAME": "",
        }
        if isinstance(self.name, tuple):
            self._template.update(SERVER_NAME=self.name[0], SERVER_PORT=str(self.name[1]))
        self._batch = 1 if cfg.workers > 1 else BATCH
        #: Whether accepting ends where as many connections are open as may be.
        self._bounded = True
        self._raw = sock._sock
        self._watcher = server.loop.io(self._raw.fileno(), READ)
        # `again` starts these anew; a timer that is only started again is over at once.
        self._pause = server.loop.timer(PAUSE_SECONDS, PAUSE_SECONDS)
        self._accepting = False
        # With reuse_port nobody else could take what waits here.
        self._share = None if cfg.reuse_port else Share(server.hooks.neighbours)
        self._turn = server.loop.timer(TURN_SECONDS, TURN_SECONDS)
        #: Whether a neighbour may accept before us.
        self.deferring = False

    # -- accepting

    def start(self) -> None:
        """Accept from now on."""
        self._pause.stop()
        if not self._accepting:
            self._accepting = True
            self._raw.setblocking(False)
            self._watcher.start(self._accept)

    def pause(self) -> None:
        """Leave new connections in the backlog, until `start`."""
        self._accepting = self.deferring = False
        self._turn.stop()
        self._watcher.stop()

    def stop(self, *, take_backlog: bool) -> None:
        """Accept no more, and close the socket.

        :param take_backlog: accept what waits first; with reuse_port the backlog is this
            worker's alone, and that is always done.
        """
        self._share = None
        if take_backlog or self.server.worker.cfg.reuse_port:
            # Whatever bound there is otherwise: what is not taken now is reset.
            self._batch, self._bounded = 1 << 16, False
            self._accept()
        self.pause()
        self._watcher.close()
        for timer in (self._pause, self._turn):
            timer.stop()
            timer.close()
        self.sock.close()

    def forgot(self, connections: int) -> None:
        """A connection was closed; perhaps it is our turn again."""
        if self.deferring and self._share is not None and self._share.behind(connections):
            self._resume()

    def _resume(self) -> None:
        self._turn.stop()
        self.deferring = False
        self._watcher.start(self._accept)

    def _accept(self) -> None:
        for _ in range(self._batch):
            if self._share is not None and self._share.defers(len(self.server.connections)):
                self.deferring = True
                self._watcher.stop()
                self._turn.again(self._resume)
                return
            try:
                fd, peer = self._raw._accept()
            except ConnectionAbortedError:
                continue
            except BlockingIOError:
                return
            except OSError as problem:
                self.server.log.warning("Cannot accept connections: %s", problem)
                self.pause()
                self._pause.again(self.start)
                return
            try:
                self._connect(fd, peer)
            except OSError as problem:
                self.server.log.debug("A connection was lost as it came: %s", problem)
            if self._bounded and self.server.full():
                return

    def _connect(self, fd: int, peer: Any) -> None:
        server = self.server
        settings = server.settings
        conn: Connection
        if self.tls is None:
            sock = _socket.socket(self._raw.family, _socket.SOCK_STREAM, 0, fd)
            sock.setblocking(False)
            conn = Connection(self, sock, peer)
            seconds = settings.head_timeout
        else:
            ragged = server.worker.cfg.suppress_ragged_eofs
            wrapped = tls.wrap(self.tls, fd, self._raw.family, ragged)
            conn = tls.TLSConnection(self, wrapped, peer)
            seconds = settings.handshake_timeout
        server.connections.add(conn)
        server.hooks.neighbours.note(len(server.connections))
        server.deadlines.watch(conn, monotonic() + seconds)
        if negotiation.prior_knowledge_allowed(self.pinned, peer) or negotiation.upgrade_allowed(
            self.pinned, peer
        ):
            server.dispatch_stock(conn)

    def shake(self, conn: Connection) -> None:
        """Hub: bytes of a TLS handshake have come."""
        if tls.shake(conn):
            conn.state = PARKED
            self.server.deadlines.watch(conn, monotonic() + self.server.settings.head_timeout)

    # -- what requests need

    def trusts(self, peer: Any) -> bool:
        """Whether the peer may name the client and the scheme."""
        host = peer[0] if isinstance(peer, tuple) else ""
        try:
            return self._trusted[host]
        except KeyError:
            if len(self._trusted) >= BATCH * BATCH:
                self._trusted.clear()
            trusted = self._trusted[host] = self._trust.peer(peer)
            return trusted

    def environ(self, conn: Connection) -> dict[str, Any]:
        """A new environ with what is known of the connection."""
        environ = self._template.copy()
        peer = conn.peer
        if isinstance(peer, tuple):
            environ["REMOTE_ADDR"] = peer[0]
            environ["REMOTE_PORT"] = str(peer[1])
        else:  # '' or, where the peer has bound its own socket, the path or name
            environ["REMOTE_ADDR"] = peer.decode() if isinstance(peer, bytes) else peer
        return environ

    def name_server(self, environ: dict[str, Any]) -> None:
        """Set SERVER_NAME and SERVER_PORT, which PEP 3333 requires, on a unix socket.

        Like gunicorn: they come from Host, the port else from the scheme; without
        Host they are the socket's path and ''.
        """
        host = environ.get("HTTP_HOST")
        if host:
            parts = host.split(":")
            port = "443" if environ["wsgi.url_scheme"] == "https" else "80"
            environ["SERVER_NAME"] = parts[0]
            environ["SERVER_PORT"] = parts[1] if len(parts) > 1 else port
        else:
            environ["SERVER_NAME"] = self.name
            environ["SERVER_PORT"] = ""

    def asked(self, conn: Connection, data: bytes) -> tuple[str, str]:
        """The method and path, without the query, of a request; empty where none can be told."""
        if not self.fast or not (conn.seen or self.fast_first) or data[:1] == b"\r":
            return stock.asked(self.pinned, conn, data)
        words = data[:1024].decode("latin-1").split(" ", 2)
        return (words[0], words[1].partition("?")[0]) if len(words) == 3 else ("", "")

    def judge(self, conn: Connection, data: bytes, new: bytes) -> bool:
        """Whether a greenlet should look at bytes that do not end a common head.

        False: they are kept, and more must come. gunicorn's parser decides, so a
        fault is answered when it can be seen; it is asked at the end of a line.

        :param new: the part of `data` that has just come.
        """
        plain = self.fast and (conn.seen or self.fast_first)
        if len(data) > HEAD_SIZE or (
            (not plain or b"\n" in new or len(data) > self.pinned.limit_request_line > 0)
            and stock.judge(self.pinned, conn, data)
        ):
            return True
        if not conn.buffer:
            head_timeout = self.server.settings.head_timeout
            self.server.deadlines.watch(conn, monotonic() + head_timeout)
        conn.buffer = data
        return False
