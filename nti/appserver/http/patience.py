"""How long a peer may keep a greenlet waiting, where what it does gives time back.

Used in the greenlet that serves; nothing here waits.
"""

from time import monotonic


class Patience:
    """Time to wait for a peer, of which a part comes back with each byte that passes.

    So who drips is given up when the time is used, and a large transfer may take
    hours, with a rest now and then. Only waiting counts, not what the application
    does meanwhile.

    :param seconds: how long in all, and the most that there ever is.
    :param rate: bytes that give a second back; 0: any byte gives all of it back.
    """

    __slots__ = ("_most", "_rate", "left")

    def __init__(self, seconds: float, rate: int) -> None:
        #: Seconds to wait from now on; 0 or less: it has been waited long enough.
        self.left = self._most = seconds
        self._rate = rate

    def waited(self, since: float, size: int) -> None:
        """The peer was waited for from `since` on the monotonic clock, then `size` bytes passed."""
        if self._rate:
            left = self.left - (monotonic() - since) + size / self._rate
            self.left = min(left, self._most)
