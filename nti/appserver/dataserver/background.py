"""What one worker does after it has started: show the sign-in link, bring the index up to date.

A greenlet of the worker runs it. With several workers one of them is the
caretaker, and when it ends another takes its place. Between two pages the
greenlet lets requests run; each batch is a unit of work.
"""

import logging
import time
from typing import Any

import gevent

from nti.appserver.dataserver.library.files import Library
from nti.appserver.dataserver.library.indexing import IndexRun
from nti.appserver.dataserver.locks import CARETAKER, INDEX, Busy, Lock
from nti.appserver.dataserver.signin import invitation
from nti.appserver.settings import Settings
from nti.appserver.transactions import run

logger = logging.getLogger("nti.appserver.dataserver")

#: Seconds between two attempts to take a lock that another process has.
PATIENCE = 2.0

#: Characters of text in a batch: fewer than the command's, for those who wait for a commit.
BATCH_TEXT = 1_000_000

#: Seconds that one pause lasts at least and at most.
SHORTEST, LONGEST = 0.001, 0.25


def start(settings: Settings, library: Library) -> Any:
    """Start the greenlet; it runs when the worker next waits for something."""
    return gevent.spawn(_take_care, settings, library)


def _take_care(settings: Settings, library: Library) -> None:
    caretaker = Lock(settings, CARETAKER)
    try:
        waited = _wait_for(caretaker)
        run(invitation.ensure, settings)
        if not waited:  # else the caretaker before has shown it
            invitation.show(settings)
        _index(settings, library)
    except Exception:
        logger.exception("the index is not up to date; `nti-appserver index` tries again")


def _wait_for(lock: Lock) -> bool:
    """Take a lock; whether that took waiting."""
    waited = False
    while True:
        try:
            lock.take()
            return waited
        except Busy:
            waited = True
            gevent.sleep(PATIENCE)


def _index(settings: Settings, library: Library) -> None:
    lock = Lock(settings, INDEX)
    _wait_for(lock)
    try:
        summary = IndexRun(library, pause=Pause(), batch_text=BATCH_TEXT)()
    finally:
        lock.release()
    logger.info(
        "%d pages in the library, %d of them indexed now, in %.1f s",
        summary.total,
        summary.indexed,
        summary.seconds,
    )


class Pause:
    """Lets others run for as long as the work since the last pause took.

    So the greenlet takes half of the worker's time at most. Merely yielding
    would not do: a request needs several turns, and would wait for a page to
    be read at each.
    """

    def __init__(self) -> None:
        self._since = time.monotonic()

    def __call__(self) -> None:
        gevent.sleep(min(max(time.monotonic() - self._since, SHORTEST), LONGEST))
        self._since = time.monotonic()
