"""How many connections each worker of a site has, for all of them to see.

Workers accept from one socket; by these numbers they share connections evenly
(`nti.appserver.http.sharing`). Only the hub of a worker uses this, and nothing
waits or switches.
"""

from time import monotonic

from nti.appserver.worker.roster import Entry, Roster

#: What a worker notes that accepts no more, however few connections it has left.
CLOSED = (1 << 32) - 1

#: How long workers that have come or gone may be overlooked.
FRESH_SECONDS = 1.0


class Neighbours:
    """The other serving workers, as one of them sees them.

    :param mine: the entry of the worker that asks.
    """

    def __init__(self, mine: Entry, roster: Roster) -> None:
        self._mine = mine
        self._roster = roster
        self._others: list[Entry] = []
        self._stale = 0.0

    def note(self, connections: int) -> None:
        """Let the others know how many connections this worker has."""
        self._mine.connections = connections

    def close(self) -> None:
        """This worker accepts no more: nobody shall leave connections to it."""
        self._mine.connections = CLOSED

    def fewest(self) -> int:
        """The connections of the worker with the fewest; `CLOSED` where this one is alone."""
        now = monotonic()
        if now >= self._stale:
            self._stale = now + FRESH_SECONDS
            self._others = [
                entry for entry in self._roster.serving_entries() if entry.pid != self._mine.pid
            ]
        return min([entry.connections for entry in self._others], default=CLOSED)
