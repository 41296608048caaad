"""Compressed messages within bounds (RFC 7692, permessage-deflate).

Negotiation is websockets' own; inflating and deflating are here, because a
message must be refused while it grows, not after. No state outlives a message
in either direction: both sides are asked for no context takeover, so an idle
connection holds no window (256 KiB with zlib's defaults).

Nothing in this file waits or switches.
"""

import zlib

from websockets.exceptions import InvalidHeader, NegotiationError
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.headers import build_extension, parse_extension

from nti.appserver.websocket.frames import PROTOCOL_ERROR, TOO_BIG, PeerError

#: What every deflated message ends with and does not send (RFC 7692, section 7.2.1).
TAIL = b"\x00\x00\xff\xff"

#: Messages shorter than this, bytes, are sent as they are: deflating makes few of them smaller.
THRESHOLD = 512

#: Final blocks that one message may hold (RFC 7692, section 7.2.3.4); each costs a copy.
MAX_STREAMS = 8

#: Windows of 4 KiB: most of the gain at a tenth of the memory of 32 KiB.
WINDOW_BITS = 12
MEMORY_LEVEL = 5

_factory = ServerPerMessageDeflateFactory(
    server_no_context_takeover=True,
    client_no_context_takeover=True,
    server_max_window_bits=WINDOW_BITS,
    client_max_window_bits=WINDOW_BITS,
)


class Deflate:
    """The two directions of one connection.

    :param remote_bits: the peer's window, 8 to 15, as the base-2 logarithm of bytes.
    :param local_bits: ours, 9 to 15.
    """

    __slots__ = ("_inflater", "_streams", "local_bits", "remote_bits")

    def __init__(self, remote_bits: int, local_bits: int) -> None:
        self.remote_bits = remote_bits
        self.local_bits = local_bits
        self._inflater: zlib._Decompress | None = None
        self._streams = 0

    def inflate(self, data: bytes, room: int) -> bytes:
        """What `data`, the next piece of a message, adds to it.

        :param room: bytes that the message may still grow by, >= 0.
        :raises PeerError: it grows by more, or is not deflated data.
        """
        grown = b""
        while data:
            inflater = self._stream()
            try:
                piece = inflater.decompress(data, room + 1)
            except zlib.error:
                raise PeerError(PROTOCOL_ERROR, "a message that is not deflated data") from None
            if len(piece) > room:
                raise PeerError(TOO_BIG, "the message inflates beyond the limit")
            room -= len(piece)
            grown = grown + piece if grown else piece
            data = inflater.unused_data
        return grown

    def _stream(self) -> "zlib._Decompress":
        """What inflates the next bytes: a final block ends one stream and begins another."""
        if self._inflater is None or self._inflater.eof:
            self._streams += 1
            if self._streams > MAX_STREAMS:
                raise PeerError(PROTOCOL_ERROR, "too many final deflate blocks in a message")
            self._inflater = zlib.decompressobj(-self.remote_bits)
        return self._inflater

    def end_message(self, room: int) -> bytes:
        """What the end of the message adds to it; the window is dropped.

        :raises PeerError: as `inflate` does.
        """
        rest = self.inflate(TAIL, room)
        self._inflater = None
        self._streams = 0
        return rest

    def deflate(self, payload: bytes) -> bytes:
        """A whole message, deflated."""
        deflater = zlib.compressobj(wbits=-self.local_bits, memLevel=MEMORY_LEVEL)
        data = deflater.compress(payload) + deflater.flush(zlib.Z_SYNC_FLUSH)
        return data[: -len(TAIL)]


def negotiate(offers: str) -> tuple[str, Deflate] | None:
    """The answer to a Sec-WebSocket-Extensions header, and what it agreed on.

    The first offer of permessage-deflate that can be taken is taken; None when
    there is none (RFC 7692, section 5.1).

    :raises ValueError: the header does not parse.
    """
    try:
        parsed = parse_extension(offers)
    except InvalidHeader as problem:
        raise ValueError(str(problem)) from None
    for name, parameters in parsed:
        if name != "permessage-deflate":
            continue
        try:
            answer, agreed = _factory.process_request_params(parameters, [])
        except NegotiationError:
            continue
        deflate = Deflate(agreed.remote_max_window_bits, agreed.local_max_window_bits)
        return build_extension([(name, answer)]), deflate
    return None
