"""One WebSocket connection's server side: bytes to events, messages to bytes.

RFC 6455 with RFC 7692. Rules of this file:

1. Sans-I/O: no socket, no clock, no switch. One greenlet feeds a `Protocol`.
2. A message is an event itself, `str` or `bytes`; control frames are frozen
   dataclasses. Events come in the order of the wire.
3. After `Close` or `Failure` nothing more is read; whatever follows is dropped.
4. Bounded: it holds at most one message of `max_size` bytes, as it grows, and
   the head of one frame. Text is checked as it arrives, so bad text and a
   message too big fail at the first byte that shows it.
"""

import codecs
from collections.abc import Callable
from dataclasses import dataclass

from nti.appserver.websocket.deflate import THRESHOLD, Deflate
from nti.appserver.websocket.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    FIN,
    INVALID_DATA,
    MAX_CONTROL,
    PING,
    PONG,
    PROTOCOL_ERROR,
    RSV1,
    TEXT,
    TOO_BIG,
    PeerError,
    apply_mask,
    frame,
    parse_close,
)

_WHOLE_TEXT = FIN | TEXT
_WHOLE = (_WHOLE_TEXT, FIN | BINARY)
_MASKED = 0x80

_new_decoder = codecs.getincrementaldecoder("utf-8")


@dataclass(frozen=True, slots=True)
class Ping:
    """The peer asks for a Pong with the same payload (RFC 6455, section 5.5.2)."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Pong:
    """The answer to a Ping, or a sign of life (RFC 6455, section 5.5.3)."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Close:
    """The peer closes (RFC 6455, section 5.5.1); `code` is 1005 when it gave none."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class Failure:
    """The peer broke the protocol or a bound; answer with this Close, then end."""

    code: int
    reason: str


Event = str | bytes | Ping | Pong | Close | Failure


class Protocol:
    """The state of one connection.

    :param max_size: the largest message in bytes, after inflating.
    :param deflate: what the handshake agreed on, or None.
    """

    __slots__ = (
        "_compressed",
        "_decoder",
        "_final",
        "_head",
        "_left",
        "_mask",
        "_message",
        "_opcode",
        "deflate",
        "ended",
        "max_size",
    )

    def __init__(self, max_size: int, deflate: Deflate | None = None) -> None:
        self.max_size = max_size
        self.deflate = deflate
        #: True after Close or Failure.
        self.ended = False
        self._head = b""  # the start of a frame that has not wholly come
        self._opcode = 0  # of the message under way: TEXT, BINARY, or 0 for none
        self._message: bytearray | None = None  # what has come of it
        self._decoder: codecs.IncrementalDecoder | None = None
        self._compressed = False
        self._final = False  # whether the data frame under way is the message's last
        self._left = 0  # payload bytes of that frame still to come
        self._mask = b""  # its mask, turned to the next byte

    def receive(self, data: bytes) -> list[Event]:
        """The events that `data`, the next bytes from the peer, completes."""
        events: list[Event] = []
        if self.ended:
            return events
        try:
            self._parse(data, events)
        except PeerError as problem:
            self.ended = True
            self._message = None
            events.append(Failure(problem.code, problem.reason))
        return events

    def encode(self, message: str | bytes, opcode: int) -> bytes:
        """A whole message as one frame, deflated where that was agreed and is worth it."""
        payload = message.encode("utf-8") if isinstance(message, str) else message
        if self.deflate is not None and len(payload) >= THRESHOLD:
            return frame(opcode, self.deflate.deflate(payload), first_bits=FIN | RSV1)
        return frame(opcode, payload)

    def _parse(self, data: bytes, events: list[Event]) -> None:
        position = 0
        if self._head:
            data = self._head + data
            self._head = b""
        elif self._left:
            position = self._take_payload(data, 0, events)
        end = len(data)
        while position < end and not self.ended:
            start = position
            position = self._take_whole(data, position, end, events)
            if position == start:
                position = self._take_frame(data, position, end, events)
                if position < 0:
                    self._head = data[start:]
                    return

    def _take_whole(self, data: bytes, position: int, end: int, events: list[Event]) -> int:
        """Take the frames most messages are: whole, plain, below 64 kB; the new position.

        This is `_take_frame` and `_take_payload` for one case, without their
        checks and copies: three times as fast. What it does not take, for
        whatever reason, they look at again.
        """
        while end - position >= 6:
            first = data[position]
            length = data[position + 1] - _MASKED
            body = position + 6
            if length == 126 and end - position >= 8:
                length = data[position + 2] << 8 | data[position + 3]
                body = position + 8
                if length < 126:
                    break
            elif length > 125:
                break
            after = body + length
            if after > end or length < 0 or first not in _WHOLE:
                break
            if self._opcode or length > self.max_size:
                break
            payload = apply_mask(data[body:after], data[body - 4 : body])
            events.append(_text(payload) if first == _WHOLE_TEXT else payload)
            position = after
        return position

    def _take_frame(self, data: bytes, position: int, end: int, events: list[Event]) -> int:
        """Take one frame; the new position, or -1 when more must come first."""
        first = data[position]
        self._check_first(first)
        if end - position < 2:
            return -1
        second = data[position + 1]
        if not second & _MASKED:
            raise PeerError(PROTOCOL_ERROR, "a frame from a client must be masked")
        length = second & 0x7F
        body = position + 6
        opcode = first & 0x0F
        if opcode >= CLOSE:
            if length > MAX_CONTROL:
                raise PeerError(PROTOCOL_ERROR, "a control frame longer than 125 bytes")
            if body + length > end:
                return -1
            payload = apply_mask(data[body : body + length], data[position + 2 : body])
            self._take_control(opcode, payload, events)
            return body + length
        if length >= 126:
            size = 2 if length == 126 else 8
            body += size
            if position + 2 + size > end:
                return -1
            length = _long_length(data[position + 2 : position + 2 + size])
        self._check_size(first, length)
        if body > end:
            return -1
        self._begin_frame(first, length, data[body - 4 : body])
        return self._take_payload(data, body, events)

    def _check_first(self, first: int) -> None:
        """Refuse what the first byte of a frame alone shows to be wrong."""
        opcode = first & 0x0F
        if opcode > PONG or BINARY < opcode < CLOSE:
            raise PeerError(PROTOCOL_ERROR, f"opcode {opcode} is reserved")
        reserved = first & 0x70
        if reserved and not (
            reserved == RSV1 and self.deflate is not None and opcode in (TEXT, BINARY)
        ):
            raise PeerError(PROTOCOL_ERROR, "reserved bits without an extension for them")
        if opcode >= CLOSE:
            if not first & FIN:
                raise PeerError(PROTOCOL_ERROR, "a control frame in fragments")
        elif opcode == CONTINUATION and not self._opcode:
            raise PeerError(PROTOCOL_ERROR, "a continuation of no message")
        elif opcode != CONTINUATION and self._opcode:
            raise PeerError(PROTOCOL_ERROR, "a new message within another's fragments")

    def _check_size(self, first: int, length: int) -> None:
        """Refuse a frame that makes its message too big; deflated ones are weighed inflated."""
        compressed = self._compressed if self._opcode else first & RSV1
        held = len(self._message) if self._message is not None else 0
        if not compressed and held + length > self.max_size:
            raise PeerError(TOO_BIG, f"a message may have {self.max_size} bytes")

    def _begin_frame(self, first: int, length: int, mask: bytes) -> None:
        """Make ready for the payload of a data frame (RFC 6455, section 5.4)."""
        opcode = first & 0x0F
        if opcode != CONTINUATION:
            self._opcode = opcode
            self._message = bytearray()
            self._compressed = bool(first & RSV1)
            self._decoder = _new_decoder() if opcode == TEXT else None
        self._final = bool(first & FIN)
        self._left = length
        self._mask = mask

    def _take_payload(self, data: bytes, position: int, events: list[Event]) -> int:
        """Take what is there of the data frame under way; the new position."""
        after = min(position + self._left, len(data))
        if after > position:
            taken = after - position
            piece = apply_mask(data[position:after], self._mask)
            self._left -= taken
            turn = taken % 4
            self._mask = self._mask[turn:] + self._mask[:turn]
            if self._compressed:
                assert self.deflate is not None
                piece = self.deflate.inflate(piece, self._room())
            self._grow(piece)
        if not self._left and self._final:
            events.append(self._end_message())
        return after

    def _room(self) -> int:
        assert self._message is not None
        return self.max_size - len(self._message)

    def _grow(self, piece: bytes) -> None:
        assert self._message is not None
        if self._decoder is not None:
            _checked(self._decoder.decode, piece, False)
        self._message += piece

    def _end_message(self) -> str | bytes:
        """The message that is whole now; afterwards none is under way."""
        if self._compressed:
            assert self.deflate is not None
            self._grow(self.deflate.end_message(self._room()))
        message = bytes(self._message or b"")
        decoder = self._decoder
        self._opcode = 0
        self._message = self._decoder = None
        if decoder is None:
            return message
        _checked(decoder.decode, b"", True)
        return message.decode("utf-8")

    def _take_control(self, opcode: int, payload: bytes, events: list[Event]) -> None:
        if opcode == PING:
            events.append(Ping(payload))
        elif opcode == PONG:
            events.append(Pong(payload))
        else:
            code, reason = parse_close(payload)
            self.ended = True
            self._message = None
            events.append(Close(code, reason))


def _text(payload: bytes) -> str:
    try:
        return payload.decode("utf-8")
    except UnicodeDecodeError:
        raise PeerError(INVALID_DATA, "text that is not UTF-8") from None


def _checked(decode: Callable[[bytes, bool], str], piece: bytes, final: bool) -> None:
    """Check the next piece of a text; what `decode` returns is not needed."""
    try:
        decode(piece, final)
    except UnicodeDecodeError:
        raise PeerError(INVALID_DATA, "text that is not UTF-8") from None


def _long_length(field: bytes) -> int:
    """The length in 2 or 8 bytes; it must need them (RFC 6455, section 5.2)."""
    length = int.from_bytes(field, "big")
    if length < (126 if len(field) == 2 else 0x10000):
        raise PeerError(PROTOCOL_ERROR, "a length in more bytes than it needs")
    if length >> 63:
        raise PeerError(PROTOCOL_ERROR, "a length of more than 63 bits")
    return length
