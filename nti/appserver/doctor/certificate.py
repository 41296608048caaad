"""The dates in an X.509 certificate (RFC 5280, section 4.1.2.5), without a library for it.

Only as much of DER is read as leads there. Nothing waits.
"""

from collections.abc import Iterator
from datetime import UTC, datetime

_SEQUENCE, _UTC_TIME, _GENERALIZED_TIME = 0x30, 0x17, 0x18
#: The certificate's version stands first, under a tag of its own, and may be missing.
_VERSION = 0xA0


def validity(der: bytes) -> tuple[datetime, datetime]:
    """From when to when a certificate holds.

    :raises ValueError: it is not a certificate.
    """
    certificate = _inside(der, _SEQUENCE)
    parts = list(_items(_inside(certificate, _SEQUENCE)))
    if parts and parts[0][0] == _VERSION:
        del parts[0]
    # Serial number, signature algorithm, issuer, validity.
    if len(parts) < 4 or parts[3][0] != _SEQUENCE:
        raise ValueError("not a certificate")
    times = [_time(tag, value) for tag, value in _items(parts[3][1])]
    if len(times) != 2:
        raise ValueError("a certificate without its two dates")
    return times[0], times[1]


def _inside(data: bytes, tag: int) -> bytes:
    """The content of the first item, which must have that tag."""
    for found, value in _items(data):
        if found == tag:
            return value
        break
    raise ValueError("not a certificate")


def _items(data: bytes) -> Iterator[tuple[int, bytes]]:
    while data:
        if len(data) < 2:
            raise ValueError("DER that ends too early")
        tag, size, start = data[0], data[1], 2
        if size & 0x80:
            start += size & 0x7F
            size = int.from_bytes(data[2:start], "big")
        if len(data) < start + size:
            raise ValueError("DER that ends too early")
        yield tag, data[start : start + size]
        data = data[start + size :]


def _time(tag: int, value: bytes) -> datetime:
    """Two digits of a year below 50 are of this century (RFC 5280, section 4.1.2.5.1)."""
    text = value.decode("ascii")
    if tag == _UTC_TIME:
        text = ("20" if text[:2] < "50" else "19") + text
    elif tag != _GENERALIZED_TIME:
        raise ValueError("a date that is none")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
