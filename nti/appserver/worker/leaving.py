"""When a worker that was told to end may do so.

gunicorn's arbiter sends SIGTERM for two reasons and does not say which: the
site shuts down, or younger workers replace this one (HUP, TTOU). In the second
case the site would be down while those start, and for good when they cannot.
So a worker that is being replaced serves on until its replacements serve, and
stays when they fail.

`Leaving.told` runs in a signal handler, in whichever greenlet was running; the
waiting is done in a greenlet of its own. `verdict` is a function of what the
roster says.
"""

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any

import gevent

from nti.appserver.worker.roster import Entry, Roster, State

#: Seconds between looks at the replacements.
LOOK_EVERY = 0.1
#: Seconds within which a worker that could not start has ended.
END_WITHIN = 10.0

SHUTDOWN = "shutdown"
RESTART = "restart"

_REPLACING = (State.BOOTING, State.WAITING, State.SERVING, State.FAILED)


class Verdict(Enum):
    """What a worker that is being replaced does next."""

    WAIT = "its replacements are starting"
    STAY = "too few of its replacements serve, and none is starting any more"
    RESTART = "its replacements serve, or wait for what it holds"
    SHUTDOWN = "its replacements were told to end, too"


def verdict(replacements: Sequence[Entry], wanted: int) -> Verdict:
    """What to do, given those who were to replace this worker.

    :param wanted: how many workers there are to be.
    """
    states = [entry.state for entry in replacements]
    alive = [entry.state for entry in replacements if not entry.gone]
    if State.LEAVING in states:
        return Verdict.SHUTDOWN
    serving = states.count(State.SERVING)
    if State.WAITING in alive or serving >= wanted:
        return Verdict.RESTART
    if State.BOOTING in alive:
        return Verdict.WAIT
    return Verdict.STAY


class Leaving:
    """Decides for one worker.

    :param leave: called once, with `SHUTDOWN` or `RESTART`; may not switch.
    """

    def __init__(
        self, entry: Entry, roster: Roster, log: Any, leave: Callable[[str], object]
    ) -> None:
        self._entry = entry
        self._roster = roster
        self._log = log
        self._leave = leave
        self._replacements: list[Entry] = []
        self._looking = False

    def told(self) -> None:
        """SIGTERM came to a worker that serves. A second one may come while it waits."""
        if not self._replaced():
            self._entry.state = State.LEAVING
            self._leave(SHUTDOWN)
        elif not self._looking:
            self._looking = True
            gevent.spawn(self._look)

    def told_before_serving(self) -> None:
        """SIGTERM came to a worker that is still starting, and now ends."""
        self._entry.state = State.OUT if self._replaced() else State.LEAVING

    def _replaced(self) -> bool:
        """Whether there are now as many younger workers as are wanted."""
        younger = self._roster.younger(self._entry.age)
        self._replacements = [entry for entry in younger if entry.state in _REPLACING]
        return len(self._replacements) >= self._roster.wanted

    def _look(self) -> None:
        while (found := verdict(self._replacements, self._roster.wanted)) is Verdict.WAIT:
            gevent.sleep(LOOK_EVERY)
        if found is Verdict.STAY:
            self._stay()
        elif found is Verdict.SHUTDOWN:
            self._entry.state = State.LEAVING
            self._leave(SHUTDOWN)
        else:
            self._leave(RESTART)
        self._looking = False

    def _stay(self) -> None:
        """Serve on; the arbiter counts this worker as new once it has seen the others end."""
        self._log.error(
            "This worker serves on, with the application as it was: the new workers could "
            "not start. Mend what is reported above and send HUP again."
        )
        failed = [entry for entry in self._replacements if entry.state is not State.SERVING]
        # Counted as new before that, it would be one too many, and told to end again.
        with gevent.Timeout(END_WITHIN, False):
            while not all(entry.gone for entry in failed):
                gevent.sleep(LOOK_EVERY)
        self._entry.age = max(entry.age for entry in self._replacements)
