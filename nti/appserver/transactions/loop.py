"""nti.transactions' loop as the engine of units of work.

The loop begins, runs, vetoes, commits, aborts and tries again. What this file
adds: the backoff has a cap, the deadline and a storage that stays away end the
attempts, what a conflict was is counted, and every exception aborts, kills and
timeouts included. A loop has no state of a run, so one serves all units of work
with as many attempts. It waits between two attempts only, with nothing leased:
for a turn where the conflict names an object, else for a random time.
"""

import logging
import time
from collections.abc import Callable
from functools import lru_cache
from random import SystemRandom, uniform
from typing import TYPE_CHECKING, Any

from nti.transactions.loop import TransactionLoop
from perfmetrics.clientstack import ClientStack  # type: ignore[import-untyped]
from transaction.interfaces import AlreadyInTransaction

from nti.appserver.storage.errors import away
from nti.appserver.transactions.commit import begin_attempt
from nti.appserver.transactions.current import slot
from nti.appserver.transactions.databases import settings_of_process
from nti.appserver.transactions.instruments import CONFLICTS, FAILED, UNAVAILABLE
from nti.appserver.transactions.reading import discards_writes
from nti.appserver.transactions.turns import next_turn

if TYPE_CHECKING:
    from nti.appserver.transactions.units import Unit

logger = logging.getLogger("nti.appserver.transactions")

#: Seconds that the random backoff is counted in: 0 to 1 of them after the first
#: conflict, 0 to 3 after the second, and so on.
BACKOFF = 0.005

#: Seconds that one wait between two attempts lasts at most.
LONGEST_BACKOFF = 0.1

#: Data managers that a report names.
_NAMED = 5


class UnitLoop(TransactionLoop):  # type: ignore[misc]
    """The loop for units of work; it is called with a unit, a function and its arguments."""

    sleep = BACKOFF
    random = SystemRandom()

    def __init__(self, attempts: int) -> None:
        if attempts < 1:
            raise ValueError(f"attempts: saw {attempts}, expected 1 or more")
        super().__init__(None, retries=attempts - 1)

    def carry_out(self, unit: "Unit", func: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """Run a unit of work; in every case its transaction has ended afterwards.

        :raises BaseException: a kill or timeout that arrived after the vote,
            when the commit and its effects are done.
        """
        if unit.manager._txn is not None:
            _make_way(unit)
        try:
            result = self(unit, func, args)
        except BaseException:
            if unit.transaction is not None:  # the loop lets kills and timeouts through
                unit.transaction.outcome = FAILED
                unit.transaction.nti_abort()
            elif unit.manager._txn is not None:  # a subscriber to its begin has failed
                unit.manager._txn.abort()
            raise
        if unit.arrived is not None:
            raise unit.arrived
        return result

    @staticmethod
    def _statsd_client() -> Any:
        """The process's own; asking for a greenlet's costs a thread-local for each request."""
        return ClientStack.default

    def get_transaction_manager_for_call(self, unit: "Unit", *_: Any) -> Any:
        return unit.manager

    def describe_transaction(self, *_: Any) -> None:
        """Nothing: `Unit.annotate` does it, for transactions that are committed."""

    def prep_for_retry(self, attempts_remaining: int, tx: Any, unit: "Unit", *_: Any) -> None:
        unit.attempts_left = attempts_remaining

    def run_handler(self, unit: "Unit", func: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        begin_attempt(unit.manager._txn, unit)
        result = func(*args)
        if unit.refused is not None:  # by an object; it was swallowed, or raised elsewhere
            refused, unit.refused = unit.refused, None
            raise refused
        if unit.aside:
            raise self.AbortAndReturn(result, "stepped aside")
        return result

    def should_veto_commit(self, result: Any, unit: "Unit", *_: Any) -> bool:
        if unit.veto is not None and unit.veto(result):
            return True
        if not unit.reading:
            return False
        assert unit.transaction is not None
        unit.transaction._callBeforeCommitHooks()  # they may write
        return discards_writes(unit)

    def should_abort_due_to_no_side_effects(self, unit: "Unit", *_: Any) -> bool:
        """Whether a reading unit of work is over; effects and hooks alone are no write.

        :raises WriteInRead: it has written, and the setting `strict_reads` refuses that.
        """
        if not unit.reading:
            return False
        tx = unit.transaction
        assert tx is not None
        if tx._resources and discards_writes(unit):
            return True
        return unit.effects is None and not tx._before_commit and not tx._after_commit

    def _retryable(self, tx: Any, exc_info: Any) -> bool:
        """Whether to try again, asked while the data managers still know; counts a conflict."""
        tx.outcome = FAILED
        unit = tx.unit
        if unit is None or unit.committed or not super()._retryable(tx, exc_info):
            return False
        return note_conflict(unit, exc_info[1])

    @staticmethod
    def _sleep(seconds: float) -> None:
        """Wait before another attempt, with nothing leased: for a turn, or a random time."""
        unit = slot.unit
        if unit is None:
            time.sleep(min(seconds, LONGEST_BACKOFF))
            return
        unit.release()
        turn, unit.turn = unit.turn, None
        unit.turn = next_turn(turn, unit.conflict, unit.deadline)
        if unit.turn is None:
            time.sleep(shortened(seconds))
        unit.catch_up()


def note_conflict(unit: "Unit", problem: BaseException) -> bool:
    """Count and remember a transient error; whether there may be another attempt."""
    CONFLICTS.labels(type(problem).__name__).inc()
    unit.conflict = problem
    unit.behind = [lease.source for lease in unit.leases()]
    if _may_try_again(unit, problem):
        return True
    UNAVAILABLE.inc()
    return False


def _may_try_again(unit: "Unit", problem: BaseException) -> bool:
    if not unit.attempts_left:
        return False
    if time.monotonic() > unit.deadline:
        logger.warning("%s conflicts, and its deadline is over", unit.label)
        return False
    if unit.replayable is not None and not unit.replayable():
        return False
    return not stays_away(unit, problem)


def stays_away(unit: "Unit", problem: BaseException) -> bool:
    """Whether a storage has been away for `storage_timeout` of a unit of work.

    Another attempt would wait for it as long again. One that is back earlier,
    after a restart perhaps, is worth another.
    """
    settings = settings_of_process()
    began = unit.deadline - settings.request_deadline
    return time.monotonic() - began >= settings.storage_timeout and away(problem) is not None


def shortened(seconds: float) -> float:
    """A random wait, at most a little under the longest one."""
    if seconds > LONGEST_BACKOFF:
        return uniform(LONGEST_BACKOFF / 2, LONGEST_BACKOFF)
    return seconds


@lru_cache(maxsize=64)
def loop_of(attempts: int) -> UnitLoop:
    """The loop that tries so often.

    :raises ValueError: fewer than once.
    """
    return UnitLoop(attempts)


def _make_way(unit: "Unit") -> None:
    """End a transaction that something else has left in the unit's manager.

    :raises AlreadyInTransaction: it has work in it, and the unit is not a
        request, which by its nature has nothing around it.
    """
    tx = unit.manager._txn
    if tx._resources:
        if not unit.outermost:
            raise AlreadyInTransaction(
                f"{unit.label}: a transaction with work in it ({tx._resources[:_NAMED]!r}) is "
                "under way in this greenlet; commit or abort it before, or use run for it, too"
            )
        logger.warning("%s: aborting a transaction that was left behind, %r", unit.label, tx)
    tx.abort()
