"""The opening handshake: an environ in, a 101 response out (RFC 6455, section 4.2).

Only functions of their arguments live here: no input or output, no switch.
"""

import base64
import binascii
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from websockets.utils import accept_key

from nti.appserver.errors import ClientError, Header
from nti.appserver.websocket.deflate import Deflate, negotiate

#: The one version of the protocol (RFC 6455, section 4.1).
VERSION = "13"

#: Subprotocols or extensions that one request may name.
MAX_OFFERS = 64


@dataclass(frozen=True, slots=True)
class Handshake:
    """What a valid request asks for.

    :param key: the Sec-WebSocket-Key header.
    :param subprotocols: those offered, the client's favourite first.
    :param extensions: the Sec-WebSocket-Extensions header, "" for none.
    """

    key: str
    subprotocols: tuple[str, ...]
    extensions: str


def _tokens(value: str) -> list[str]:
    return [token.strip() for token in value.split(",") if token.strip()]


def is_upgrade(environ: Mapping[str, Any]) -> bool:
    """Whether the request asks for a WebSocket, rightly or not (RFC 9110, section 7.8)."""
    upgrade = environ.get("HTTP_UPGRADE")
    if upgrade is None or "websocket" not in [token.lower() for token in _tokens(upgrade)]:
        return False
    connection = environ.get("HTTP_CONNECTION", "")
    return "upgrade" in [token.lower() for token in _tokens(connection)]


def _bad(detail: str) -> ClientError:
    return ClientError(400, "Bad Request", f"WebSocket handshake: {detail}")


def parse_handshake(environ: Mapping[str, Any]) -> Handshake:
    """What the request asks for.

    :raises ClientError: 400 or 426 (RFC 6455, sections 4.2.1 and 4.4).
    """
    method = environ["REQUEST_METHOD"]
    if method != "GET":
        raise _bad(f"saw method {method}, expected GET")
    if environ.get("SERVER_PROTOCOL", "HTTP/1.1") == "HTTP/1.0":
        raise _bad("saw HTTP/1.0, expected HTTP/1.1")
    version = environ.get("HTTP_SEC_WEBSOCKET_VERSION", "").strip()
    if version != VERSION:
        raise ClientError(
            426,
            "Upgrade Required",
            f"WebSocket handshake: saw version {version or 'none'}, expected {VERSION}",
            headers=[("Sec-WebSocket-Version", VERSION)],
        )
    subprotocols = tuple(_tokens(environ.get("HTTP_SEC_WEBSOCKET_PROTOCOL", "")))
    if len(subprotocols) > MAX_OFFERS:
        raise _bad(f"saw {len(subprotocols)} subprotocols, expected at most {MAX_OFFERS}")
    extensions = environ.get("HTTP_SEC_WEBSOCKET_EXTENSIONS", "")
    if extensions.count(",") >= MAX_OFFERS:
        raise _bad(f"expected at most {MAX_OFFERS} extensions")
    return Handshake(_key(environ), subprotocols, extensions)


def _key(environ: Mapping[str, Any]) -> str:
    key: str = environ.get("HTTP_SEC_WEBSOCKET_KEY", "").strip()
    try:
        if len(base64.b64decode(key.encode("ascii"), validate=True)) == 16:
            return key
    except (binascii.Error, UnicodeEncodeError):
        pass
    raise _bad("expected a Sec-WebSocket-Key of 16 bytes in base64")


def agree_on_deflate(handshake: Handshake) -> tuple[str, Deflate] | None:
    """The Sec-WebSocket-Extensions answer and what it agrees on, or None.

    :raises ClientError: 400, the offer does not parse.
    """
    if not handshake.extensions:
        return None
    try:
        return negotiate(handshake.extensions)
    except ValueError:
        raise _bad("Sec-WebSocket-Extensions does not parse") from None


def choose_subprotocol(offered: Sequence[str], known: Iterable[str]) -> str | None:
    """The first of `known` that the client offers (RFC 6455, section 4.2.2)."""
    return next((name for name in known if name in offered), None)


def response(
    handshake: Handshake,
    *,
    subprotocol: str | None = None,
    extensions: str = "",
    headers: Iterable[Header] = (),
) -> bytes:
    """The 101 response's bytes.

    :param headers: further ones, as `start_response` takes them.
    :raises ValueError: one of them holds a line break.
    """
    fields: list[Header] = [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Accept", accept_key(handshake.key)),
    ]
    if subprotocol is not None:
        fields.append(("Sec-WebSocket-Protocol", subprotocol))
    if extensions:
        fields.append(("Sec-WebSocket-Extensions", extensions))
    fields.extend(headers)
    lines = [f"{name}: {value}" for name, value in fields]
    if any("\r" in line or "\n" in line for line in lines):
        raise ValueError("a header of the 101 response holds a line break")
    head = "\r\n".join(("HTTP/1.1 101 Switching Protocols", *lines, "", ""))
    return head.encode("latin-1")
