"""What happens once a transaction has committed, or aborted.

Effects (mail, tasks, Socket.IO emits, any call) are queued in a data manager
that joins the transaction, so savepoints roll them back with everything else.
They happen in order, once each, when the transaction has ended: the locks are
free, the answer not yet sent. They run where no kill or timeout reaches them,
so each should be short. A failing effect is logged and counted; it fails
neither the effects after it nor the response.
"""

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import transaction
from transaction._transaction import Status
from transaction.interfaces import NoTransaction

from nti.appserver.transactions.current import slot
from nti.appserver.transactions.instruments import EFFECTS_DONE, EFFECTS_FAILED
from nti.appserver.transactions.shield import is_own_failure, shielded

if TYPE_CHECKING:
    from nti.appserver.transactions.units import Unit

logger = logging.getLogger("nti.appserver.transactions")

Call = tuple[Callable[..., object], tuple[Any, ...]]

#: Under this key a transaction that is not ours keeps its queue.
_KEY = object()

#: Effects of one transaction; more are a mistake, and would fill the memory.
LIMIT = 100_000


def on_commit(func: Callable[..., object], *args: Any) -> None:
    """Call `func(*args)` when the transaction under way has committed.

    Once, in the order of these calls, however often the unit of work is tried;
    not at all when it aborts. Where no transaction is under way it is called
    at once, and then what it raises is raised here.

    :param args: plain values, not persistent objects: the unit of work that
        these belong to is over by then.
    :raises OverflowError: this transaction has 100,000 effects already.
    """
    queue = _queue()
    if queue is None:
        func(*args)
    else:
        queue.add(queue.of_commit, func, args)


def on_abort(func: Callable[..., object], *args: Any) -> None:
    """Call `func(*args)` when this attempt at the unit of work has aborted.

    In the order of these calls, at the end of each attempt that made them and
    did not commit. Where no transaction is under way it is never called.

    :raises OverflowError: this transaction has 100,000 effects already.
    """
    queue = _queue()
    if queue is not None:
        queue.add(queue.of_abort, func, args)


class EffectQueue:
    """The effects of one transaction, as a data manager with savepoints."""

    __slots__ = ("_committed", "_unit", "of_abort", "of_commit", "transaction_manager")

    def __init__(self, manager: Any, unit: "Unit | None") -> None:
        self.transaction_manager = manager
        self._unit = unit
        self.of_commit: list[Call] = []
        self.of_abort: list[Call] = []
        self._committed = False

    def add(self, calls: list[Call], func: Callable[..., object], args: tuple[Any, ...]) -> None:
        """Queue one call."""
        if len(calls) >= LIMIT:
            raise OverflowError(f"a transaction may have {LIMIT:,} effects; do several in one")
        calls.append((func, args))

    # -- a data manager, last among all: its sort key is above theirs

    def sortKey(self) -> str:
        return "~~~~nti.appserver.effects"

    def _nothing(self, tx: Any) -> None:
        pass

    tpc_begin = commit = tpc_vote = tpc_abort = _nothing

    def abort(self, tx: Any) -> None:
        """The end of all, or a rollback to before the first effect: none of the commit happens.

        Unless it was made: `transaction` aborts all managers once hooks have run after it.
        """
        if self._committed:
            return
        self.of_commit.clear()
        unit = self._unit
        if unit is not None and unit.effects is self and tx.status is Status.ACTIVE:
            unit.effects = None  # a rollback, which takes the queue out of the transaction

    def tpc_finish(self, tx: Any) -> None:
        """All others have finished: the effects of the commit may happen."""
        self._committed = True

    def savepoint(self) -> "_Savepoint":
        return _Savepoint(self, len(self.of_commit), len(self.of_abort))

    # -- after the end

    def commit_has_happened(self, unit: "Unit | None") -> BaseException | None:
        """Let the effects of a commit happen; a kill or timeout that arrived meanwhile."""
        if not self._committed or not self.of_commit:
            return None
        return shielded(None, _perform, self.of_commit, unit)

    def abort_has_happened(self, unit: "Unit | None") -> BaseException | None:
        """Let the effects of an abort happen; a kill or timeout that arrived meanwhile."""
        if not self.of_abort:
            return None
        return shielded(None, _perform, self.of_abort, unit)

    def after_commit(self, success: bool) -> None:
        """The hook by which a transaction that is not ours tells of its end."""
        arrived = shielded(None, _perform, self.of_commit if success else self.of_abort, None)
        if arrived is not None:
            raise arrived


class _Savepoint:
    __slots__ = ("_abort_count", "_commit_count", "_queue")

    def __init__(self, queue: EffectQueue, commit_count: int, abort_count: int) -> None:
        self._queue = queue
        self._commit_count = commit_count
        self._abort_count = abort_count

    def rollback(self) -> None:
        del self._queue.of_commit[self._commit_count :]
        del self._queue.of_abort[self._abort_count :]


def _queue() -> EffectQueue | None:
    """The queue of the transaction under way, joined to it; None where none is."""
    unit = slot.unit
    if unit is None:
        return _foreign_queue()
    queue = unit.effects
    if queue is None:
        tx = unit.transaction
        if tx is None:
            return _foreign_queue()
        if tx.status is Status.COMMITTED:
            return None
        queue = EffectQueue(unit.manager, unit)
        tx.join(queue)  # fails once the commit has begun
        unit.effects = queue
    return queue


def _foreign_queue() -> EffectQueue | None:
    """The queue of a transaction that something else has begun in this greenlet."""
    manager = transaction.manager.manager
    if manager._txn is None:  # `get` would begin one
        return None
    if getattr(manager._txn, "unit", None) is not None:  # a unit of work's, which aborts
        return None
    try:
        tx = manager.get()
    except NoTransaction:
        return None
    with suppress(KeyError):
        known: EffectQueue = tx.data(_KEY)
        if known in tx._resources:  # else it was rolled back
            return known
    queue = EffectQueue(manager, None)
    tx.join(queue)
    tx.set_data(_KEY, queue)
    tx.addAfterCommitHook(queue.after_commit)
    tx.addAfterAbortHook(queue.after_commit, (False,))
    return queue


def _perform(calls: list[Call], unit: "Unit | None") -> None:
    """Call each, shielded; what fails, by a timeout of its own, too, is logged and counted.

    :raises BaseException: what ends the process; all have been called by then.
    """
    leaving: BaseException | None = None
    for func, args in calls:
        try:
            func(*args)
        except BaseException as problem:
            EFFECTS_FAILED.inc()
            logger.exception(
                "effect %r failed, of %s", func, unit.label if unit is not None else "a transaction"
            )
            if not is_own_failure(problem):
                leaving = leaving or problem
        else:
            EFFECTS_DONE.inc()
    calls.clear()
    if leaving is not None:
        raise leaving
