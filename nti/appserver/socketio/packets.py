"""Engine.IO packets as text, bytes and WebSocket frames (Engine.IO protocol, revision 4).

Only functions of their arguments live here: no input or output, no switch.

An outgoing packet is engineio's `Packet`, as python-socketio's manager makes
it, one for all receivers of an emit. What it is on the wire is made once for
each transport and kept on it; its own `encode` keeps one form for both, and
then sends raw bytes to clients that poll.
"""

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Any

from engineio.packet import CLOSE, MESSAGE, NOOP, OPEN, PING, PONG, UPGRADE, Packet

from nti.appserver.websocket.frames import BINARY, TEXT, frame

__all__ = [
    "CLOSE",
    "MESSAGE",
    "NOOP",
    "OPEN",
    "PING",
    "PONG",
    "UPGRADE",
    "Incoming",
    "Packet",
    "PacketError",
    "decode",
    "decode_payload",
    "encode_payload",
    "polling_text",
    "websocket_frame",
]

#: Stands between the packets of a payload.
SEPARATOR = "\x1e"

#: Packets that one payload may hold.
MAX_PACKETS = 256


class PacketError(ValueError):
    """The client sent what is no packet; its session ends."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """A packet from a client.

    :param kind: OPEN to NOOP.
    :param data: text, or bytes in a binary message.
    """

    kind: int
    data: str | bytes


def decode(data: str | bytes) -> Incoming:
    """The packet that one WebSocket message holds.

    :raises PacketError: it holds none.
    """
    if isinstance(data, bytes):
        return Incoming(MESSAGE, data)
    kind = ord(data[0]) - 48 if data else -1
    if not OPEN <= kind <= NOOP:
        raise PacketError(f"packet type: saw {data[:1]!r}, expected 0 to 6")
    return Incoming(kind, data[1:])


def decode_payload(text: str) -> list[Incoming]:
    """The packets that the body of a POST holds.

    :raises PacketError: it holds none, too many, or something else.
    """
    pieces = text.split(SEPARATOR, MAX_PACKETS)
    if len(pieces) > MAX_PACKETS:
        raise PacketError(f"a payload of more than {MAX_PACKETS} packets")
    return [_decode_piece(piece) for piece in pieces]


def _decode_piece(piece: str) -> Incoming:
    if not piece.startswith("b"):
        return decode(piece)
    try:
        return Incoming(MESSAGE, base64.b64decode(piece[1:], validate=True))
    except (binascii.Error, ValueError):
        raise PacketError("a binary packet that is not base64") from None


def _text(packet: Packet) -> str:
    data = packet.data
    if data is None:
        return str(packet.packet_type)
    if not isinstance(data, str):
        data = json.dumps(data, separators=(",", ":"))
    return f"{packet.packet_type}{data}"


def websocket_frame(packet: Packet) -> bytes:
    """The WebSocket frame that carries `packet`; made once."""
    known: bytes | None = getattr(packet, "websocket_frame", None)
    if known is None:
        if packet.binary:
            known = frame(BINARY, bytes(packet.data))
        else:
            known = frame(TEXT, _text(packet).encode("utf-8"))
        packet.websocket_frame = known
    return known


def polling_text(packet: Packet) -> str:
    """`packet` as a part of a payload; made once."""
    known: str | None = getattr(packet, "polling_text", None)
    if known is None:
        if packet.binary:
            known = "b" + base64.b64encode(packet.data).decode("ascii")
        else:
            known = _text(packet)
        packet.polling_text = known
    return known


def encode_payload(packets: list[Packet]) -> str:
    """The body of the answer to a poll."""
    return SEPARATOR.join([polling_text(packet) for packet in packets])


def size_of(packet: Packet) -> int:
    """About how many bytes the packet has on the wire; what counts against bounds."""
    data: Any = packet.data
    return len(data) if isinstance(data, (str, bytes, bytearray)) else 64
