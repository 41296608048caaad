"""Turns among the workers of a site: one process at a time, and a dead one is in nobody's way."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from time import monotonic

import pytest
from ZODB.POSException import ConflictError

from nti.appserver.settings import Settings
from nti.appserver.testing.process import wait_until
from nti.appserver.transactions import configure
from nti.appserver.transactions.marks import BUCKETS, Marks, bucket_of, open_marks
from nti.appserver.transactions.turns import Turn, contended, is_contended, wait_for_turn

OID = b"\0" * 7 + b"\1"

HOLDER = """
import sys, time
from pathlib import Path
from nti.appserver.transactions.marks import Marks, bucket_of
marks = Marks(Path(sys.argv[1]))
assert marks.take(bucket_of(bytes(7) + b"\\1"), time.monotonic() + 30)
print("taken", flush=True)
sys.stdin.readline()
marks.give_back(bucket_of(bytes(7) + b"\\1"))
print("given back", flush=True)
"""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Path]:
    """The runtime folder of a site that this process belongs to."""
    configure(Settings(runtime_dir=str(tmp_path)))
    yield tmp_path
    configure(Settings(runtime_dir=str(tmp_path / "none")))


@pytest.fixture
def holder(site: Path) -> Iterator["subprocess.Popen[str]"]:
    """Another process, which has its turn at the object."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(site / "turns")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "taken\n"
        yield process
        process.kill()


def conflict() -> ConflictError:
    return ConflictError(oid=OID)


def test_every_object_has_a_bucket() -> None:
    assert {bucket_of(os.urandom(8)) < BUCKETS for _ in range(1000)} == {True}


def test_another_workers_turn_is_seen_and_waited_for(holder: "subprocess.Popen[str]") -> None:
    assert is_contended(OID)
    assert wait_for_turn(conflict(), monotonic() + 0.05) is None
    assert holder.stdin is not None
    holder.stdin.write("\n")
    holder.stdin.flush()
    turn = wait_for_turn(conflict(), monotonic() + 30)
    assert turn is not None
    turn.end()
    assert not is_contended(OID)


def test_nobody_begins_between_one_turn_and_the_next(
    holder: "subprocess.Popen[str]", site: Path
) -> None:
    """Who waits for the turn sets the mark again, which its last holder has cleared."""
    turns: list[Turn | None] = []
    waiting = Thread(target=lambda: turns.append(wait_for_turn(conflict(), monotonic() + 30)))
    with open(site / "turns", "r+b") as marks:
        marks.seek(bucket_of(OID))
        marks.write(b"\0")  # as the holder does at its end
    waiting.start()
    wait_until(lambda: is_contended(OID), "who waits has set the mark")
    assert holder.stdin is not None
    holder.stdin.write("\n")
    holder.stdin.flush()
    waiting.join(30)
    assert turns[0] is not None
    turns[0].end()


def test_the_turn_of_a_worker_that_was_killed_passes_on(holder: "subprocess.Popen[str]") -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait(30)
    assert is_contended(OID), "the next one has to clear it"
    turn = wait_for_turn(conflict(), monotonic() + 30)
    assert turn is not None
    turn.end()
    assert not is_contended(OID)


def test_one_killed_while_it_waits_for_another_worker_leaves_the_queue(
    holder: "subprocess.Popen[str]", monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(seconds: float) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("nti.appserver.transactions.marks.time.sleep", killed)
        with pytest.raises(KeyboardInterrupt):
            wait_for_turn(conflict(), monotonic() + 30)
    assert OID not in contended
    holder.send_signal(signal.SIGKILL)
    holder.wait(30)
    turn = wait_for_turn(conflict(), monotonic() + 30)
    assert turn is not None, "the place of the killed one is in the way"
    turn.end()


def test_without_a_runtime_folder_turns_are_this_process_own(tmp_path: Path) -> None:
    assert open_marks(Settings(runtime_dir=str(tmp_path / "none"))) is None


def test_a_file_that_cannot_be_made_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "turns").mkdir()
    assert open_marks(Settings(runtime_dir=str(tmp_path))) is None
    assert "do not see each other's turns" in caplog.text


def test_the_file_is_as_long_as_there_are_buckets(tmp_path: Path) -> None:
    marks = Marks(tmp_path / "turns")
    assert (tmp_path / "turns").stat().st_size == BUCKETS
    assert not marks.is_set(0)
    marks.close()


class Late(Marks):
    """The process that had the lock clears its mark just before the lock is tried."""

    def _try(self, bucket: int) -> bool:
        self._bytes[bucket] = 0
        return super()._try(bucket)


def test_who_has_the_lock_has_set_the_mark(tmp_path: Path) -> None:
    marks = Late(tmp_path / "turns")
    assert marks.take(7, monotonic() + 5)
    assert marks.is_set(7)
    marks.close()
