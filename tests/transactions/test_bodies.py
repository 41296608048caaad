"""A body that is read again says the same, however it is read."""

import io
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from nti.appserver.transactions.bodies import ReplayInput

READS = st.one_of(
    st.tuples(st.just("read"), st.integers(-1, 40)),
    st.tuples(st.just("readline"), st.integers(-1, 40)),
    st.tuples(st.just("readlines"), st.just(-1)),
    st.tuples(st.just("rewind"), st.just(0)),
)


@given(
    st.binary(max_size=120).map(lambda data: data.replace(b"\x00", b"\n")),
    st.lists(READS, max_size=20),
    st.integers(0, 60),
)
def test_it_reads_as_the_body_itself_does(
    data: bytes, reads: list[tuple[str, int]], memory: int
) -> None:
    replay = ReplayInput(io.BytesIO(data), memory, 1000)
    plain = io.BytesIO(data)
    for how, size in reads:
        if how == "rewind":
            replay.rewind()
            plain.seek(0)
        else:
            assert getattr(replay, how)(size) == getattr(plain, how)(size)
    replay.rewind()
    assert replay.read() == data
    replay.close()


def test_past_the_bound_nothing_is_kept() -> None:
    replay = ReplayInput(io.BytesIO(b"x" * 100), 10, 50)
    assert replay.read(40) == b"x" * 40
    assert replay.replayable
    assert replay.read(40) == b"x" * 40
    assert not replay.replayable
    assert replay.read() == b"x" * 20


def test_past_a_smaller_bound_it_is_spooled_to_disk() -> None:
    replay = ReplayInput(io.BytesIO(b"x" * 100), 50, 1000)
    assert replay.read(40) == b"x" * 40
    assert not replay._kept._rolled
    assert replay.read(40) == b"x" * 40
    assert replay._kept._rolled, "kept in memory"
    replay.rewind()
    assert replay.read() == b"x" * 100


def test_a_source_that_gives_less_than_asked() -> None:
    class Slow(io.BytesIO):
        def read(self, size: Any = -1) -> bytes:
            return super().read(min(size, 3) if size >= 0 else 3)

    replay = ReplayInput(Slow(b"abcdefgh"), 10, 50)
    assert replay.read(5) == b"abc"
    replay.rewind()
    assert replay.read(5) == b"abcde"
    assert replay.read(5) == b"fgh"
