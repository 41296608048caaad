"""The codec on a corpus of byte sequences, however they arrive, and on random ones."""

import itertools
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.speedups import apply_mask

from nti.appserver.websocket.deflate import Deflate, negotiate
from nti.appserver.websocket.frames import (
    BINARY,
    TEXT,
    PeerError,
    close_payload,
    frame,
    parse_close,
)
from nti.appserver.websocket.protocol import Close, Event, Failure, Ping, Pong, Protocol

LIMIT = 1000


@dataclass(frozen=True)
class Case:
    title: str
    data: bytes
    events: tuple[str, ...]


def corpus() -> Iterator[Case]:
    title, data, events = "", b"", []
    text = (Path(__file__).parent / "corpus" / "frames.txt").read_text("utf-8")
    for line in [*text.splitlines(), ""]:
        if line.startswith(">"):
            data = bytes.fromhex(line[1:])
        elif line.startswith("<"):
            events.append(line[1:].strip())
        elif line.startswith("#"):
            continue
        elif line:
            title = line
        elif title and events:
            yield Case(title, data, tuple(events))
            title, data, events = "", b"", []


def shown(event: Event) -> str:
    """An event as the corpus writes it."""
    match event:
        case str():
            return f"text {event}".strip()
        case bytes():
            return f"binary {event.hex()}".strip()
        case Ping(payload):
            return f"ping {payload.hex()}".strip()
        case Pong(payload):
            return f"pong {payload.hex()}".strip()
        case Close(code, reason):
            return f"close {code} {reason}".strip()
        case Failure(code, _):
            return f"fail {code}"


def protocol_for(title: str) -> Protocol:
    return Protocol(LIMIT, Deflate(15, 15) if title.startswith("deflate") else None)


def in_pieces(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


@pytest.mark.parametrize("case", list(corpus()), ids=lambda case: case.title)
def test_corpus(case: Case) -> None:
    for size in (len(case.data), 1, 2, 3, 7):
        protocol = protocol_for(case.title)
        events: list[Event] = []
        for piece in in_pieces(case.data, size):
            events += protocol.receive(piece)
        assert tuple(map(shown, events)) == case.events, f"in pieces of {size}"


@pytest.mark.parametrize("case", list(corpus()), ids=lambda case: case.title)
def test_corpus_cut_anywhere(case: Case) -> None:
    step = max(1, len(case.data) // 50)
    for cut in range(0, len(case.data), step):
        protocol = protocol_for(case.title)
        events = [*protocol.receive(case.data[:cut]), *protocol.receive(case.data[cut:])]
        assert tuple(map(shown, events)) == case.events, f"cut at {cut}"


# -- random messages in random fragments and pieces

payloads = st.one_of(st.text(max_size=300), st.binary(max_size=300))


def masked(first: int, payload: bytes, mask: bytes) -> bytes:
    length = len(payload)
    if length < 126:
        head = bytes((first, 0x80 | length))
    elif length < 0x10000:
        head = bytes((first, 0xFE)) + length.to_bytes(2, "big")
    else:
        head = bytes((first, 0xFF)) + length.to_bytes(8, "big")
    return head + mask + apply_mask(payload, mask)


@st.composite
def conversations(draw: st.DrawFn) -> tuple[bytes, list[Event]]:
    """A client's bytes, and the events that they mean."""
    data, events = b"", []
    for message in draw(st.lists(payloads, max_size=6)):
        payload = message.encode() if isinstance(message, str) else message
        opcode = TEXT if isinstance(message, str) else BINARY
        cuts = sorted(draw(st.lists(st.integers(0, len(payload)), max_size=3)))
        edges = [0, *cuts, len(payload)]
        for number, (begin, end) in enumerate(itertools.pairwise(edges)):
            last = number == len(edges) - 2
            first = (0x80 if last else 0) | (opcode if number == 0 else 0)
            mask = draw(st.binary(min_size=4, max_size=4))
            data += masked(first, payload[begin:end], mask)
            if not last and draw(st.booleans()):
                control = draw(st.binary(max_size=125))
                data += masked(0x89, control, b"mask")
                events.append(Ping(control))
        events.append(message)
    return data, events


@given(conversations(), st.integers(1, 400))
def test_messages_survive_fragments_and_pieces(
    conversation: tuple[bytes, list[Event]], size: int
) -> None:
    data, expected = conversation
    protocol = Protocol(LIMIT * 4)
    events: list[Event] = []
    for piece in in_pieces(data, size):
        events += protocol.receive(piece)
    assert events == expected
    assert not protocol.ended


@given(st.lists(st.binary(max_size=200), max_size=20))
def test_whatever_comes_is_answered_not_raised(pieces: list[bytes]) -> None:
    for deflate in (None, Deflate(15, 15)):
        protocol = Protocol(LIMIT, deflate)
        for piece in pieces:
            for event in protocol.receive(piece):
                if isinstance(event, (str, bytes)):
                    assert len(event) <= LIMIT
                elif isinstance(event, (Close, Failure)):
                    assert protocol.ended
        if protocol.ended:
            assert protocol.receive(b"\x81\x80mask") == []


@settings(max_examples=50)
@given(st.one_of(st.text(max_size=70_000), st.binary(max_size=70_000)))
def test_frames_are_read_by_another_codec(message: str | bytes) -> None:
    opcode = TEXT if isinstance(message, str) else BINARY
    payload = message.encode() if isinstance(message, str) else message
    data = Protocol(LIMIT).encode(message, opcode)
    assert data == Frame(Opcode(opcode), payload).serialize(mask=False)


def test_many_small_fragments_take_no_more_memory_than_the_message() -> None:
    import tracemalloc

    size = 200_000
    fragments = masked(0x02, b"ab", b"mask") + masked(0x00, b"ab", b"mask") * (size // 2 - 1)
    protocol = Protocol(size)
    tracemalloc.start()
    try:
        for piece in in_pieces(fragments, 65536):
            assert protocol.receive(piece) == []
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 2 * size
    assert protocol.receive(masked(0x80, b"", b"mask")) == [b"ab" * (size // 2)]


# -- deflate


def test_inflating_stops_at_the_limit() -> None:
    bomb = Deflate(15, 15).deflate(b"\0" * 50_000_000)
    assert len(bomb) < 60_000
    protocol = Protocol(1_000_000, Deflate(15, 15))
    assert protocol.receive(masked(0xC2, bomb, b"mask")) == [
        Failure(1009, "the message inflates beyond the limit")
    ]


@given(st.binary(max_size=5000), st.integers(1, 500))
def test_deflated_messages_come_back(message: bytes, size: int) -> None:
    sender, receiver = Deflate(15, 12), Protocol(5000, Deflate(12, 15))
    events: list[Event] = []
    for _ in range(2):
        data = masked(0xC2, sender.deflate(message), b"mask")
        for piece in in_pieces(data, size):
            events += receiver.receive(piece)
    assert events == [message, message]


def test_only_long_messages_are_deflated() -> None:
    protocol = Protocol(LIMIT, Deflate(15, 15))
    assert protocol.encode("short", TEXT) == frame(TEXT, b"short")
    data = protocol.encode("long " * 1000, TEXT)
    assert data[0] == 0xC1
    body = data[4:] if data[1] == 126 else data[2:]
    inflated = zlib.decompressobj(-15).decompress(body + b"\x00\x00\xff\xff")
    assert inflated == b"long " * 1000


@pytest.mark.parametrize(
    ("offer", "answer"),
    [
        ("x-unknown", None),
        ("permessage-deflate; server_max_window_bits=8", None),
        ("permessage-deflate; no_such_parameter", None),
        (
            "permessage-deflate; client_max_window_bits",
            (
                "permessage-deflate; server_no_context_takeover; client_no_context_takeover; "
                "server_max_window_bits=12; client_max_window_bits=12"
            ),
        ),
        (
            "permessage-deflate; server_max_window_bits=8, permessage-deflate",
            (
                "permessage-deflate; server_no_context_takeover; client_no_context_takeover; "
                "server_max_window_bits=12"
            ),
        ),
    ],
)
def test_negotiation(offer: str, answer: str | None) -> None:
    agreed = negotiate(offer)
    assert (agreed[0] if agreed else None) == answer


def test_an_offer_that_does_not_parse() -> None:
    with pytest.raises(ValueError, match="Sec-WebSocket-Extensions"):
        negotiate("permessage-deflate; =")


# -- close frames


def test_a_long_reason_is_cut_at_a_whole_character() -> None:
    payload = close_payload(1000, "é" * 100)
    assert len(payload) <= 125
    assert parse_close(payload) == (1000, "é" * 61)


@pytest.mark.parametrize("code", [0, 999, 1004, 1006, 1015, 2999, 5000])
def test_codes_that_may_not_be_sent(code: int) -> None:
    with pytest.raises(ValueError, match=f"saw {code}"):
        close_payload(code)
    with pytest.raises(PeerError):
        parse_close(code.to_bytes(2, "big"))
