"""When a worker should make room for a new one: too large, or old enough; one at a time.

The turn to leave is a lock in the site's folder that a leaving worker holds
until its process ends, so that workers never go together and the site keeps
its capacity but for one. Nothing here waits or switches.
"""

import fcntl
import os
import random
from collections.abc import Callable
from pathlib import Path

from nti.appserver.settings import Settings

MIB = 1024 * 1024

#: Workers that started together do not grow old together.
JITTER = 0.1


class Recycling:
    """Decides for one worker.

    :param folder: shared by the workers of the site.
    :param restart: asked once, with the reason; the worker finishes what it
        has in hand and ends, and gunicorn starts another.
    """

    def __init__(self, settings: Settings, folder: Path, restart: Callable[[str], object]) -> None:
        self._memory = settings.worker_memory
        spread = random.uniform(1 - JITTER, 1 + JITTER)
        self._age = settings.worker_age * spread
        self._folder = folder
        self._restart = restart
        self._turn: int | None = None

    def reason(self, memory: int, age: float) -> str:
        """Why the worker should go, '' when it may stay.

        :param memory: its bytes in RAM.
        :param age: seconds since it started.
        """
        if self._memory and memory > self._memory:
            return (
                f"its memory of {memory / MIB:.0f} MiB is over the {self._memory / MIB:.0f} MiB "
                "of worker_memory"
            )
        if self._age and age > self._age:
            return f"it is {age:.0f} s old, and worker_age is about that"
        return ""

    def consider(self, memory: int, age: float) -> None:
        """Ask for the restart when there is a reason and no other worker is leaving."""
        if self._turn is None:
            reason = self.reason(memory, age)
            if reason and self.takes_turn():
                self._restart(reason)

    def takes_turn(self) -> bool:
        """Whether this worker may leave now; the others then may not until its process has ended.

        Where the folder cannot be written it may: nobody could keep turns.
        """
        if self._turn is not None:
            return True
        try:
            file = os.open(
                self._folder / "leaving.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
            )
        except OSError:
            return True
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return False
        # Held open for as long as the process lives.
        self._turn = file
        return True
