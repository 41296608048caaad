"""Connections over TLS.

The socket is gevent's SSLSocket, non-blocking: every byte goes through it, none
around it. The handshake runs on the hub, step by step as bytes arrive, so one
that is slow holds no greenlet.
"""

import ssl
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
        self.taken = self.sock
        self.sock.settimeout(None)
        return self.sock


def wrap(context: ssl.SSLContext, fd: int, family: int, suppress_ragged_eofs: bool) -> Any:
    """A non-blocking server-side SSLSocket for an accepted descriptor."""
    plain = gevent_socket.socket(family, gevent_socket.SOCK_STREAM, 0, fileno=fd)
    sock = context.wrap_socket(
        plain,
        server_side=True,
        do_handshake_on_connect=False,
        suppress_ragged_eofs=suppress_ragged_eofs,
    )
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
