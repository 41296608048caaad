"""The transaction of a unit of work: two-phase commit that is never left half done.

nti.transactions' loop begins a transaction and ends it by `nti_commit` or
`nti_abort`. `begin_attempt` makes that transaction one of ours by changing its
class: the loop stays the engine, and these two methods are where leases,
effects and measurements meet it. All of it runs in the unit's greenlet, except
what `shielded` runs; a switch is safe anywhere, since a transaction belongs to
one greenlet.
"""

import logging
from time import perf_counter
from typing import TYPE_CHECKING, Any

from nti.transactions import loop as _loop
from transaction._transaction import Status, Transaction, _NoSynchronizers, rm_key

from nti.appserver.errors import AppServerError
from nti.appserver.storage.errors import CommitInDoubt, away
from nti.appserver.transactions.instruments import ABORTED, COMMIT_SECONDS, COMMITTED
from nti.appserver.transactions.shield import is_own_failure, shielded

if TYPE_CHECKING:
    from nti.appserver.transactions.units import Unit

logger = logging.getLogger("nti.appserver.transactions")

assert _loop  # importing it gives Transaction its nti_commit and nti_abort


class InDoubt(AppServerError):
    """A data manager failed after all had voted to commit.

    Some may have stored their part. It is never tried again, and its effects
    do not happen; the log says who had finished.
    """


class UnitTransaction(Transaction):  # type: ignore[misc]
    """A transaction that a unit of work commits or aborts; applications may not."""

    #: Set by `begin_attempt`; None once the transaction has ended.
    unit: "Unit | None" = None
    #: What its abort counts as.
    outcome = ABORTED
    _synchronizers: Any

    def nti_commit(self) -> None:
        """Commit, then let the effects happen.

        A kill or timeout that arrives after the vote is not raised here, where
        the loop would take it for a failure of the commit: it is the unit's
        `arrived`, for whoever runs the loop to raise.
        """
        unit = self.unit
        assert unit is not None
        if not self._resources and not self._may_be_joined():
            self.commit()
            unit.take_effects()
            self._ended(COMMITTED)
            return
        unit.annotate(self)
        began = perf_counter()
        self.commit()
        if unit.committed:
            COMMIT_SECONDS.observe(perf_counter() - began)
        queue = unit.take_effects()
        self._ended(COMMITTED)
        if queue is not None:
            later = queue.commit_has_happened(unit)
            unit.arrived = unit.arrived or later

    def nti_abort(self) -> None:
        """Abort, then let the effects of an abort happen. Nothing, once it has ended.

        :raises BaseException: a kill or timeout that arrived meanwhile is raised
            here, when all is undone.
        """
        unit = self.unit
        if unit is None:
            return
        queue = unit.take_effects()
        if queue is None and not self._resources and not self._is_anybody_told():
            self._free_manager()
            self._synchronizers = _NoSynchronizers
            self._ended(self.outcome)
            return
        arrived = later = None
        try:
            arrived = shielded(unit, self.abort)
        finally:
            self._ended(self.outcome)
            if queue is not None:
                later = queue.abort_has_happened(unit)
        arrived = arrived or later
        if arrived is not None:
            raise arrived

    def _may_be_joined(self) -> bool:
        """Whether hooks or synchronizers may still write before it is committed."""
        told = self._synchronizers
        return bool(self._before_commit or (told is not _NoSynchronizers and told.data.data))

    def _is_anybody_told(self) -> bool:
        """Whether an abort with no data managers does more than end the transaction."""
        told = self._synchronizers
        if told is _NoSynchronizers:  # the application has ended it already
            return True
        return bool(self._before_abort or self._after_abort or told.data.data)

    def _ended(self, outcome: Any) -> None:
        outcome.inc()
        unit, self.unit = self.unit, None
        if unit is not None and unit.turn is not None and outcome is COMMITTED:
            unit.end_turn()

    def _commitResources(self) -> None:
        """Two-phase commit, as `transaction` does it, with its end shielded.

        A kill or timeout may come through until all have voted: then all is
        undone. From there on, and while it is undone, none comes through.
        """
        unit = self.unit
        if not self._resources or unit is None:
            return
        managers = sorted(self._resources, key=rm_key)
        try:
            for each in managers:
                each.tpc_begin(self)
            for each in managers:
                each.commit(self)
            for each in managers:
                each.tpc_vote(self)
                self._voted[id(each)] = True
            unit.arrived = shielded(unit, self._finish, managers) or unit.arrived
        except BaseException as problem:
            arrived = shielded(unit, self._undo, managers)
            if arrived is not None and isinstance(problem, Exception):
                raise arrived from problem  # else a conflict would be tried again in spite of it
            raise

    def _finish(self, managers: list[Any]) -> None:
        """The second phase and all that `transaction` does after it."""
        done: list[Any] = []
        try:
            for each in managers:
                each.tpc_finish(self)
                done.append(each)
        except BaseException as problem:
            logger.critical(
                "a data manager failed after the vote; stored: %r, perhaps not: %r",
                done,
                managers[len(done) :],
            )
            if isinstance(problem, CommitInDoubt):
                raise  # it says so itself, and is answered with 503
            unknown = InDoubt("the commit failed after the vote, and may be stored in part")
            raise (away(problem) or unknown) from problem
        self.status = Status.COMMITTED
        unit = self.unit
        assert unit is not None
        unit.committed = True
        unit.arrived = self._complete()
        self._callAfterCommitHooks(status=True)

    def _undo(self, managers: list[Any]) -> None:
        leaving: BaseException | None = None
        try:
            self._cleanup(managers)
        except BaseException as problem:
            if not is_own_failure(problem):
                leaving = problem
        leaving = self._complete() or leaving
        if leaving is not None:
            raise leaving

    def _cleanup(self, managers: list[Any]) -> None:
        """Undo all, whatever one of them raises: each may hold a lock.

        :raises BaseException: the first that is no mere error, when all is undone.
        """
        steps = [(each, "abort") for each in managers if id(each) not in self._voted]
        steps += [(each, "tpc_abort") for each in managers]
        leaving: BaseException | None = None
        for each, step in steps:
            try:
                getattr(each, step)(self)
            except BaseException as problem:
                logger.exception("%s failed in %r", step, each)
                if not isinstance(problem, Exception):
                    leaving = leaving or problem
        if leaving is not None:
            raise leaving

    def _complete(self) -> BaseException | None:
        """Tell the synchronizers that it has ended. It has: what fails in them is only logged.

        :returns: what ends the process, to be raised when all is done.
        """
        leaving: BaseException | None = None
        for reference in self._synchronizers.as_weakref_list():
            each = reference()
            try:
                if each is not None:
                    each.afterCompletion(self)
            except BaseException as problem:
                logger.exception("%r failed after the end of a transaction", each)
                if not is_own_failure(problem):
                    leaving = leaving or problem
        self._synchronizers = _NoSynchronizers
        return leaving

    def _callAfterCommitHooks(self, status: bool = True) -> None:
        """Call them, shielded: `transaction` would log a kill as a hook's failure, and go on.

        :raises BaseException: what arrived meanwhile, if the commit has failed;
            else it is the unit's `arrived`.
        """
        if not self._after_commit:
            return
        unit = self.unit
        arrived = shielded(unit, super()._callAfterCommitHooks, status)
        if arrived is None:
            return
        if not status or unit is None:
            raise arrived
        unit.arrived = unit.arrived or arrived


def begin_attempt(tx: Any, unit: "Unit") -> None:
    """Make the transaction that the loop has just begun the unit's own."""
    tx.__class__ = UnitTransaction
    tx.unit = unit
    unit.transaction = tx
    unit.refresh()
