"""Who the client behind a trusted proxy is, and by which scheme it came.

Sans-I/O. One source is read, the one that the setting `client_source` chooses,
and from trusted peers alone; the other headers change nothing. The client is
the right-most address that is not itself a trusted proxy: what stands left of
it was written by the client.
"""

import re
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

#: Header values whose client is remembered, so that a proxy's every request is one look-up.
REMEMBERED = 1024

FORWARDED = "HTTP_FORWARDED"
X_FORWARDED_FOR = "HTTP_X_FORWARDED_FOR"

#: RFC 7239, section 4: one parameter of one element.
_PARAMETER = re.compile(r'\s*([A-Za-z]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s;,"]+))\s*')

Environ = dict[str, Any]


class Trust:
    """Which peers are trusted: gunicorn's `forwarded_allow_ips`, and unix sockets."""

    def __init__(self, cfg: Any) -> None:
        self.anyone = "*" in cfg.forwarded_allow_ips
        self._networks = cfg.forwarded_allow_networks()

    def peer(self, address: Any) -> bool:
        """Whether the peer at this socket address is trusted."""
        if not isinstance(address, tuple):
            return True
        return self.anyone or self.proxy(address[0])

    def proxy(self, text: str) -> bool:
        """Whether `text` is the address of a trusted proxy. "*" names none in particular."""
        try:
            address = ip_address(text)
        except ValueError:
            return False
        return any(address in network for network in self._networks)


class ClientSource:
    """Puts the client into environ, for requests of trusted peers.

    :param source: the value of the setting `client_source`.
    """

    def __init__(self, source: str, trust: Trust) -> None:
        self._trust = trust
        self._known: dict[str, tuple[str, str]] = {}
        self.key = {"x-forwarded-for": X_FORWARDED_FOR, "forwarded": FORWARDED}.get(source, "")
        self._read: Callable[[str], tuple[str, str]] = (
            self._forwarded if source == "forwarded" else self._x_forwarded_for
        )

    def apply(self, environ: Environ) -> None:
        """Set REMOTE_ADDR, and the scheme where Forwarded names it.

        REMOTE_PORT is taken out: no header tells the client's port.
        """
        value = environ.get(self.key)
        if value is None:
            return
        try:
            client, scheme = self._known[value]
        except KeyError:
            client, scheme = self._read(value)
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            self._known[value] = client, scheme
        if client:
            environ["REMOTE_ADDR"] = client
            environ.pop("REMOTE_PORT", None)
        if scheme:
            environ["wsgi.url_scheme"] = scheme

    def _x_forwarded_for(self, value: str) -> tuple[str, str]:
        hops = [_address(hop) for hop in value.split(",")]
        return self._client(hops)[0], ""

    def _forwarded(self, value: str) -> tuple[str, str]:
        """RFC 7239; an element that is not well formed ends what can be trusted."""
        elements = [_element(text) for text in _split(value)]
        client, index = self._client([element.get("for", "") for element in elements])
        scheme = elements[index].get("proto", "").lower() if index >= 0 else ""
        return client, scheme if scheme in ("http", "https") else ""

    def _client(self, hops: list[str]) -> tuple[str, int]:
        """The right-most untrusted address and its index; ('', -1): none can be told."""
        found = "", -1
        for index in range(len(hops) - 1, -1, -1):
            if not hops[index]:
                break
            found = hops[index], index
            if not self._trust.proxy(hops[index]):
                break
        return found


def _address(hop: str) -> str:
    """The address of one hop without brackets and port; '' where there is none."""
    text = hop.strip(" \t")
    if text[:1] == "[":
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return ""
    # ::ffff:192.0.2.1 is the same host as 192.0.2.1, however the proxy's socket was made.
    return str(getattr(address, "ipv4_mapped", None) or address)


def _split(value: str) -> list[str]:
    """The elements of a Forwarded header, at the commas outside quotes."""
    return re.findall(r'(?:[^,"]|"(?:[^"\\]|\\.)*"?)+', value)


def _element(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in text.split(";"):
        match = _PARAMETER.fullmatch(part)
        if match is None or match[1].lower() in found:
            return {}
        found[match[1].lower()] = match[2] or match[3] or ""
    if "for" in found:
        found["for"] = _address(found["for"])
    return found
