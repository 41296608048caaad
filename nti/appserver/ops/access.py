"""Who may see `/_ops/`.

Judged on REMOTE_ADDR, which the connection has rewritten to the client's
address where a trusted proxy named it. Nothing here waits or switches.
"""

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any

from nti.appserver.errors import ConfigurationError

Network = IPv4Network | IPv6Network

#: What a proxy adds. A request with one of these came through a proxy.
PROXIED = (
    "HTTP_X_FORWARDED_FOR",
    "HTTP_FORWARDED",
    "HTTP_X_REAL_IP",
    "HTTP_VIA",
    "HTTP_X_FORWARDED_HOST",
    "HTTP_X_FORWARDED_PROTO",
)


def networks(words: Sequence[str]) -> tuple[Network, ...]:
    """The networks that the setting `ops_allow` names.

    :raises ConfigurationError: one is neither an address nor a network.
    """
    found = []
    for word in words:
        try:
            found.append(ip_network(word))
        except ValueError as error:
            raise ConfigurationError(
                f"setting ops_allow has {word!r} ({error})",
                "addresses and networks such as 10.0.0.7 or 10.0.0.0/24",
            ) from None
    return tuple(found)


def may_ask(environ: Mapping[str, Any], allowed: Sequence[Network]) -> bool:
    """Whether this client may see operational pages.

    A trusted peer may that asks for itself: one on this machine, or a load
    balancer of `forwarded_allow_ips`. Whatever came through a proxy is not the
    peer asking, even where no proxy header was believed and REMOTE_ADDR is still
    the proxy's own: only `ops_allow` can let it in, by its client's address.
    """
    address = environ.get("REMOTE_ADDR", "")
    peer, trusted = _peer(environ, address)
    proxied = any(name in environ for name in PROXIED)
    if address == peer and proxied:
        return False
    if address == peer and trusted:
        return True
    return _within(address, allowed)


def _peer(environ: Mapping[str, Any], address: str) -> tuple[str, bool]:
    """The peer's own address and whether it is trusted; on any server."""
    connection = environ.get("nti.appserver.connection")
    if connection is None:
        return address, address in ("", "127.0.0.1", "::1")
    peer = connection.peer
    return (str(peer[0]) if isinstance(peer, tuple) else str(peer)), bool(connection.trusted)


def _within(address: str, allowed: Sequence[Network]) -> bool:
    if not allowed or not address:
        return False
    try:
        client = ip_address(address)
    except ValueError:
        return False
    mapped = getattr(client, "ipv4_mapped", None)
    return any((mapped or client) in network for network in allowed)
