"""The bytes of a WebSocket frame, and what may stand in them (RFC 6455, section 5).

Only pure functions and constants live here: no state, no input or output, no
switch. They may be called from any thread or greenlet.
"""

try:
    from websockets.speedups import apply_mask
except ImportError:  # its wheel for any platform has no C in it, and buildout prefers that one
    from websockets.utils import apply_mask

__all__ = [
    "BINARY",
    "CLOSE",
    "CONTINUATION",
    "PING",
    "PONG",
    "TEXT",
    "PeerError",
    "apply_mask",
    "close_payload",
    "frame",
    "parse_close",
]

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

FIN = 0x80
RSV1 = 0x40

#: The longest payload of a control frame, bytes (RFC 6455, section 5.5).
MAX_CONTROL = 125

#: Stands for "no code was given" and is never sent (RFC 6455, section 7.1.5).
NO_CODE = 1005

NORMAL, GOING_AWAY, PROTOCOL_ERROR, INVALID_DATA = 1000, 1001, 1002, 1007
POLICY_VIOLATION, TOO_BIG, SERVER_ERROR, RESTART, TRY_AGAIN = 1008, 1009, 1011, 1012, 1013

_REGISTERED = frozenset((*range(1000, 1004), *range(1007, 1015)))

#: Two-byte heads of the frames that most messages are: whole, unmasked, short.
_SHORT_HEADS = tuple(
    tuple(bytes((FIN | opcode, length)) for length in range(126)) for opcode in range(16)
)


class PeerError(Exception):
    """The peer broke the protocol or a bound; the connection fails with this code.

    :param code: the status to close with (RFC 6455, section 7.4.1).
    :param reason: for the Close frame and the log; at most 123 bytes.
    """

    def __init__(self, code: int, reason: str) -> None:
        self.code = code
        self.reason = reason
        super().__init__(f"{code} {reason}")


def frame(opcode: int, payload: bytes, *, first_bits: int = FIN) -> bytes:
    """One unmasked frame, as a server sends it (RFC 6455, section 5.2).

    :param first_bits: FIN and the reserved bits of the first byte.
    """
    length = len(payload)
    if length < 126 and first_bits == FIN:
        return _SHORT_HEADS[opcode][length] + payload
    first = first_bits | opcode
    if length < 126:
        return bytes((first, length)) + payload
    if length < 0x10000:
        return bytes((first, 126, length >> 8, length & 0xFF)) + payload
    return bytes((first, 127)) + length.to_bytes(8, "big") + payload


def is_close_code(code: int) -> bool:
    """Whether a Close frame may carry `code` (RFC 6455, section 7.4)."""
    return code in _REGISTERED or 3000 <= code <= 4999


def close_payload(code: int, reason: str = "") -> bytes:
    """The payload of a Close frame; a long reason is cut at a whole character.

    :raises ValueError: `code` may not be sent.
    """
    if code == NO_CODE:
        return b""
    if not is_close_code(code):
        raise ValueError(f"close code: saw {code}, expected 1000-1003, 1007-1014 or 3000-4999")
    text = reason.encode("utf-8", "replace")[: MAX_CONTROL - 2]
    return code.to_bytes(2, "big") + text.decode("utf-8", "ignore").encode()


def parse_close(payload: bytes) -> tuple[int, str]:
    """The code and reason of a received Close frame; 1005 where it has none.

    :raises PeerError: the payload is not a valid one (RFC 6455, section 7.1.5).
    """
    if not payload:
        return NO_CODE, ""
    if len(payload) == 1:
        raise PeerError(PROTOCOL_ERROR, "a close frame with half a code")
    code = int.from_bytes(payload[:2], "big")
    if not is_close_code(code):
        raise PeerError(PROTOCOL_ERROR, f"close code {code} may not be sent")
    try:
        return code, payload[2:].decode("utf-8")
    except UnicodeDecodeError:
        raise PeerError(INVALID_DATA, "a close reason that is not UTF-8") from None
