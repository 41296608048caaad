"""A site whose workers crash one after the other is stopped, with a message, not respawned forever.

gunicorn itself stops where a worker cannot boot. A worker that boots and then
crashes (a segmentation fault, an `os._exit`, the kernel's out-of-memory killer)
it starts again at once, without end. Here the arbiter counts.

`CrashLoop` lives in the arbiter; a `Life` is shared with its worker through one
small piece of memory. Nothing waits.
"""

import mmap
import os
import time
from collections.abc import Callable

from gunicorn.errors import HaltServer

#: A worker that crashes within so many seconds of its start counts.
YOUNG = 10.0

#: gunicorn's own status for workers that cannot boot.
EXIT_STATUS = 3


class Life:
    """One worker as both sides see it."""

    def __init__(self, born: float) -> None:
        self.born = born
        self._memory = mmap.mmap(-1, 8)

    def enter(self) -> None:
        """Worker: this is the process."""
        self._memory[1:8] = os.getpid().to_bytes(7, "little")

    def end(self) -> None:
        """Worker: it ends because it was asked to, or had decided to."""
        self._memory[0] = 1

    @property
    def ended_well(self) -> bool:
        return self._memory[0] == 1

    @property
    def gone(self) -> bool:
        """Whether the process has been there and is no more."""
        pid = int.from_bytes(self._memory[1:8], "little")
        if pid == 0:
            return False
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass
        return False


class CrashLoop:
    """Counts workers that crash young while none grows old.

    :param limit: so many in a row are too many; 0: never.
    """

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit = limit
        self.crashes = 0
        self._clock = clock
        self._lives: list[Life] = []

    def next_life(self) -> Life:
        """Arbiter: a worker is about to be forked.

        :raises HaltServer: too many crashed in a row; gunicorn stops on it.
        """
        now = self._clock()
        for life in [life for life in self._lives if life.gone]:
            self._lives.remove(life)
            if not life.ended_well:
                self.crashes = self.crashes + 1 if now - life.born < YOUNG else 0
        if any(now - life.born >= YOUNG for life in self._lives):
            self.crashes = 0
        if self.limit and self.crashes >= self.limit:
            raise HaltServer(self._message(), EXIT_STATUS)
        life = Life(now)
        self._lives.append(life)
        return life

    def _message(self) -> str:
        return (
            f"{self.crashes} workers in a row crashed within {YOUNG:.0f} s of their start and none "
            "lived longer, so gunicorn stops instead of starting more. The lines above say how "
            "each of them ended (a signal, or an exit code); mend that and start again. The "
            "setting crash_loop is the number; 0 starts workers without end."
        )
