"""ZEO's messages as bytes: a length of four bytes, then a pickle or msgpack.

The protocol is ZEO's (ZEO/asyncio/smp.py and marshal.py); these versions make
fewer Python calls for each message. Runs in the I/O thread; the two functions anywhere.
"""

import logging
from collections.abc import Callable, Iterator
from struct import Struct
from typing import Any

from ZEO.asyncio.smp import SizedMessageProtocol

_log = logging.getLogger("ZEO.asyncio.smp")

_LENGTH = Struct(">I")

_OID = b"\x00oid\xff\x00\x01\x02"
_TID = b"\x00tid\xff\x03\x04\x05"


def framed(message: bytes) -> bytes:
    """The message as it goes over the wire."""
    return _LENGTH.pack(len(message)) + message


def load_encoder(encode: Callable[..., bytes]) -> Callable[[bytes, bytes], bytes]:
    """A function that makes the message `loadBefore(oid, tid)`, whose id is (oid, tid).

    All such messages differ in these sixteen bytes alone, so they are cut from
    one made by `encode`.
    """
    key = (_OID, _TID)
    sample = encode(key, False, "loadBefore", key)
    one, two, three, four, five = _cut(sample)

    def load_message(oid: bytes, tid: bytes) -> bytes:
        return b"".join((one, oid, two, tid, three, oid, four, tid, five))

    assert load_message(_OID, _TID) == sample
    return load_message


def _cut(sample: bytes) -> Iterator[bytes]:
    for mark in (_OID, _TID, _OID, _TID):
        piece, found, sample = sample.partition(mark)
        assert found, "the message does not hold its arguments as they are"
        yield piece
    yield sample


class MessageStream(SizedMessageProtocol):  # type: ignore[misc]
    """Cuts what is received into messages; writing, pausing and closing are ZEO's."""

    eof_received: Callable[[], None]

    def __init__(self, receive: Callable[[bytes], None]) -> None:
        super().__init__(receive)
        self._pieces: list[bytes] = []
        self._held = 0
        self._wanted = _LENGTH.size
        self._ended = False
        #: How often bytes have come; a watcher sees by it that the server lives.
        self.received_chunks = 0

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.data_received = self._received
        stop: Callable[[], None] = self.eof_received

        def eof_received() -> None:
            self._ended = True
            stop()

        self.eof_received = eof_received

    def _received(self, data: bytes) -> None:
        self.received_chunks += 1
        self._held += len(data)
        if self._pieces or self._held < self._wanted:
            self._pieces.append(data)
            if self._held < self._wanted:
                return
            data = b"".join(self._pieces)
            self._pieces.clear()
        rest = self._take_messages(data)
        self._held = len(rest)
        if rest:
            self._pieces.append(rest)

    def _take_messages(self, data: bytes) -> bytes:
        """Hand on each whole message; return the bytes after the last one."""
        start, end = 0, len(data)
        while end - start >= _LENGTH.size and not self._ended:
            (length,) = _LENGTH.unpack_from(data, start)
            stop = start + _LENGTH.size + length
            if stop > end:
                self._wanted = _LENGTH.size + length
                return data[start:]
            message = data[start + _LENGTH.size : stop]
            start = stop
            self._receive_one(message)
        self._wanted = _LENGTH.size
        return b"" if self._ended else data[start:]

    def _receive_one(self, message: bytes) -> None:
        try:
            self.receive(message)
        except Exception:
            _log.exception("a message of %d bytes could not be processed", len(message))
