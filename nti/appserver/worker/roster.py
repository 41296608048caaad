"""The workers of one arbiter, in memory that they all share: who serves, who is starting.

gunicorn's arbiter answers HUP by forking new workers and ending the old ones at
once, whether the new ones can serve or not. The roster lets an old worker see
for itself. The arbiter adds an entry before each fork; from then on only that
worker writes it and everyone reads it. There is no lock: a field is one aligned
word, stored by one assignment. (`struct.pack_into` would zero it first, for
others to see.) An entry is free again when its process has gone.

No method waits or switches.
"""

import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

#: Entries in the shared memory; gunicorn runs a handful of workers, twice as many in a restart.
CAPACITY = 1024

#: Bytes, and what the words of an entry and of the head are.
_WORD = 4
_AGE, _PID, _STATE, _CONNECTIONS = range(4)
_FAILURES, _HAS_SERVED, _WANTED = range(3)
_WORDS = 4


class State(IntEnum):
    """What a worker is doing."""

    FREE = 0
    BOOTING = 1
    #: It waits for something that an older worker holds, such as FileStorage's lock.
    WAITING = 2
    SERVING = 3
    #: It could not make the application.
    FAILED = 4
    #: It was told to end, and not because others replace it.
    LEAVING = 5
    #: It failed and pauses before it ends, or was replaced before it could serve.
    OUT = 6


class Entry:
    """One worker's place in the roster."""

    def __init__(self, words: "memoryview[int]", offset: int) -> None:
        self._words = words
        self._offset = offset

    @property
    def age(self) -> int:
        """gunicorn's running number of the worker: a younger worker has a greater one.

        A worker that stays because its replacements failed takes on theirs.
        """
        return self._words[self._offset + _AGE]

    @age.setter
    def age(self, age: int) -> None:
        self._words[self._offset + _AGE] = age

    @property
    def pid(self) -> int:
        """The process, or 0 before its fork."""
        return self._words[self._offset + _PID]

    @pid.setter
    def pid(self, pid: int) -> None:
        self._words[self._offset + _PID] = pid

    @property
    def state(self) -> State:
        return State(self._words[self._offset + _STATE])

    @state.setter
    def state(self, state: State) -> None:
        self._words[self._offset + _STATE] = state

    @property
    def connections(self) -> int:
        """Its open connections, as far as it has noted them."""
        return self._words[self._offset + _CONNECTIONS]

    @connections.setter
    def connections(self, connections: int) -> None:
        self._words[self._offset + _CONNECTIONS] = connections

    @property
    def gone(self) -> bool:
        """Whether the process has ended without saying why."""
        if self.pid == 0:
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:  # gunicorn starts it as root, and it has not become `user` yet
            return False
        return False


class Roster:
    """All entries, and what they have been through together."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self.capacity = capacity
        memory = mmap.mmap(-1, (1 + capacity) * _WORDS * _WORD)
        self._words = memoryview(memory).cast("I")
        # One byte to read, for the first of all processes that ask for it.
        self._right_to_end, last_word = os.pipe()
        os.write(last_word, b"!")
        os.close(last_word)

    def add(self, age: int) -> Entry:
        """Arbiter: an entry for the worker that is about to be forked.

        :param age: gunicorn's running number of the worker.
        :raises RuntimeError: every entry belongs to a living process.
        """
        for entry in self._all():
            if entry.state is State.FREE or entry.gone:
                entry.age, entry.pid, entry.state = age, 0, State.BOOTING
                entry.connections = 0
                return entry
        raise RuntimeError(f"more than {self.capacity} workers")

    def younger(self, age: int) -> list[Entry]:
        """The entries of living workers forked after the one of this age."""
        return [entry for entry in self._all() if entry.age > age and not entry.gone]

    def serving(self) -> int:
        """How many living workers serve."""
        return len(self.serving_entries())

    def serving_entries(self) -> list[Entry]:
        """The entries of living workers that serve."""
        states = self._words[_WORDS + _STATE :: _WORDS].tolist()
        entries = (
            Entry(self._words, number * _WORDS)
            for number, state in enumerate(states, 1)
            if state == State.SERVING
        )
        return [entry for entry in entries if not entry.gone]

    def _all(self) -> Iterator[Entry]:
        for number in range(1, self.capacity + 1):
            yield Entry(self._words, number * _WORDS)

    @property
    def failures(self) -> int:
        """How many workers failed in a row, the last one included."""
        return self._words[_FAILURES]

    @property
    def has_served(self) -> bool:
        """Whether any worker of this arbiter has ever served."""
        return self._words[_HAS_SERVED] == 1

    @property
    def wanted(self) -> int:
        """How many workers the configuration asks for; the arbiter writes it before each fork."""
        return self._words[_WANTED]

    @wanted.setter
    def wanted(self, wanted: int) -> None:
        self._words[_WANTED] = wanted

    def note_failure(self) -> int:
        """Worker: it could not start; the failures in a row."""
        self._words[_FAILURES] += 1
        return self.failures

    def may_end_gunicorn(self) -> bool:
        """Worker: whether it is the first to ask this; the others are told no."""
        return os.read(self._right_to_end, 1) != b""

    def note_serving(self) -> None:
        """Worker: it serves, so that whatever failed before is over."""
        self._words[_FAILURES] = 0
        self._words[_HAS_SERVED] = 1


_roster: Roster | None = None
_mine: Entry | None = None
_patience = 0.0


def roster() -> Roster:
    """The roster of this arbiter, made when it is first asked for and inherited by its workers."""
    global _roster
    if _roster is None:
        _roster = Roster()
    return _roster


def enter(entry: Entry, patience: float) -> None:
    """Worker: this process is the one that the entry was added for.

    :param patience: seconds that an older worker may take to end.
    """
    global _mine, _patience
    _mine, _patience = entry, patience
    entry.pid = os.getpid()


@contextmanager
def waiting_for_predecessor() -> Iterator[float]:
    """Within it this worker needs something that an older one holds, who leaves at once.

    :return: seconds that the older one may take; 0 outside of a worker.
    """
    if _mine is None:
        yield 0.0
        return
    _mine.state = State.WAITING
    yield _patience
    _mine.state = State.BOOTING
