"""Sharing the connections of a site evenly among its workers.

All workers wait on one listening socket, and whichever runs first takes a
connection. On a machine with more to do than cores that is the worker which
runs already: it takes one after the other while its neighbours wait for a core.
So a worker that is ahead of a neighbour leaves the next connection to it for a
moment. Where the neighbour makes no use of that, as it is busy or stuck, the
worker goes on, each time with twice as many: nobody waits long for it.

Called on the hub; nothing here switches.
"""

from typing import Protocol

#: How long a neighbour that is behind has for accepting.
PAUSE_SECONDS = 0.02

#: How far ahead a worker may be: by so many connections, and by this part of the neighbour's.
LEAD = 8
LEAD_PART = 8

#: Connections that are taken at most after a pause that nobody has used.
MOST = 64


class Neighbours(Protocol):
    """What a worker tells the others, and sees of them."""

    def note(self, connections: int) -> None:
        """Let the others know how many connections this worker has."""

    def close(self) -> None:
        """This worker accepts no more."""

    def fewest(self) -> int:
        """The connections of the neighbour with the fewest."""


class Alone:
    """The neighbours of a worker that shares its socket with nobody."""

    def note(self, connections: int) -> None:
        """Nobody wants to know."""

    def close(self) -> None:
        """Nobody wants to know."""

    def fewest(self) -> int:
        return 1 << 32


class Share:
    """What one listening socket's connections are to this worker."""

    def __init__(self, neighbours: Neighbours) -> None:
        self._neighbours = neighbours
        self._paused = False
        self._fewest = 0
        #: Connections to take in spite of the lead, after the last pause and still.
        self._granted = 0
        self._left = 0

    def defers(self, connections: int) -> bool:
        """Whether to pause before the next connection is accepted.

        After the pause it is asked again, and looks at what has come of it.

        :param connections: how many this worker has.
        """
        fewest = self._neighbours.fewest()
        if not _ahead(connections, fewest):
            self._paused, self._granted, self._left = False, 0, 0
            return False
        if self._left:
            self._left -= 1
            return False
        if self._paused:
            self._paused = False
            self._granted = 0 if fewest > self._fewest else min(2 * self._granted or 1, MOST)
            if self._granted:
                self._left = self._granted - 1
                return False
        self._paused, self._fewest = True, fewest
        return True

    def behind(self, connections: int) -> bool:
        """Whether a pause may end early: this worker is no longer ahead."""
        return not _ahead(connections, self._neighbours.fewest())


def _ahead(connections: int, fewest: int) -> bool:
    return connections > fewest + LEAD + fewest // LEAD_PART
