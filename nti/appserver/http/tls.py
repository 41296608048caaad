"""Connections over TLS.

The socket is gevent's SSLSocket, non-blocking: every byte goes through it, none
around it. The handshake runs on the hub, step by step as bytes arrive, so one
that is slow holds no greenlet.
"""

import ssl
from collections.abc import Callable
from typing import Any

from gevent import socket as gevent_socket

from nti.appserver.http.connection import BUSY, HANDSHAKE, WOULD_BLOCK, Address, Connection


class TLSConnection(Connection):
    """A connection whose socket encrypts."""

    __slots__ = ()

    def __init__(self, listener: Any, sock: Any, peer: Address) -> None:
        super().__init__(listener, sock, peer)
        self.state = HANDSHAKE

    def pending(self) -> bool:
        return bool(self.sock.pending())

    def send_both(self, head: bytes, body: bytes) -> None:
        self.sendall(head)
        self.sendall(body)

    def sendfile(self, file: Any, offset: int, count: int) -> int:
        raise NotImplementedError("sendfile would bypass TLS")

    def gevent_socket(self) -> Any:
        if self.taken is None:
            self.taken = self.sock
            self.taken.settimeout(None)
            self.sock = Unwaiting(self.taken)
        return self.taken


class Unwaiting:
    """An SSLSocket that others may wait for, as its connection uses it: it never waits.

    :param sock: gevent's SSLSocket.
    """

    def __init__(self, sock: Any) -> None:
        self._sock = sock

    def recv(self, size: int) -> bytes:
        return self._at_once(self._sock.recv, size)  # type: ignore[no-any-return]

    def send(self, data: Any, flags: int = 0) -> int:
        return self._at_once(self._sock.send, data, flags)  # type: ignore[no-any-return]

    def _at_once(self, method: Callable[..., Any], *args: Any) -> Any:
        before = self._sock.gettimeout()
        self._sock.settimeout(0.0)
        try:
            return method(*args)
        finally:
            self._sock.settimeout(before)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


def wrap(context: ssl.SSLContext, fd: int, family: int, suppress_ragged_eofs: bool) -> Any:
    """A non-blocking server-side SSLSocket for an accepted descriptor.

    :raises OSError: the peer is gone.
    """
    plain = gevent_socket.socket(family, gevent_socket.SOCK_STREAM, 0, fileno=fd)
    sock: Any = context.wrap_socket(
        plain,
        server_side=True,
        do_handshake_on_connect=False,
        suppress_ragged_eofs=suppress_ragged_eofs,
    )
    if sock._sslobj is None:  # it has sent its end and a reset, and nothing before
        sock.close()
        raise ConnectionResetError("the peer was gone before the handshake")
    sock.settimeout(0.0)
    return sock


def shake(conn: Connection) -> bool:
    """Hub: take the handshake a step further; True when it is over and HTTP/1 follows.

    A connection that agreed on HTTP/2 goes to gunicorn's own code, one that
    failed is closed.
    """
    try:
        conn.sock._sslobj.do_handshake()
    except WOULD_BLOCK:
        return False
    except OSError as problem:
        conn.listener.server.log.debug("TLS handshake failed: %s", problem)
        conn.close()
        return False
    if conn.sock.selected_alpn_protocol() == "h2":
        conn.state = BUSY
        conn.listener.server.dispatch_stock(conn)
        return False
    return True
