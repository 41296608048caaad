"""The unit of work, and `run`, which carries one through.

A `Unit` is what belongs together from begin to end: a transaction manager, the
leases of its connections, the effects of its transaction, its name for logs.
It belongs to the greenlet that runs it. Waiting is safe anywhere in it.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import transaction

from nti.appserver.request_id import current_request_id
from nti.appserver.transactions.commit import UnitTransaction
from nti.appserver.transactions.connections import refresh
from nti.appserver.transactions.current import current_unit, greenlets_own, slot
from nti.appserver.transactions.databases import (
    database_of_process,
    leases_of,
    settings_of_process,
)
from nti.appserver.transactions.effects import EffectQueue
from nti.appserver.transactions.leases import Lease, Leases
from nti.appserver.transactions.loop import loop_of
from nti.appserver.transactions.turns import Turn

T = TypeVar("T")


class Unit:
    """One unit of work.

    :param manager: the raw transaction manager; the greenlet's own when None.
    :param description: what undo logs call its transaction.
    :param reading: whether it should not write; what it writes is discarded.
    """

    # Class attributes, so that a unit of work costs no more than it uses.
    outer: "Unit | None" = None
    #: Whether it is a request: then what was left in the manager is in its way.
    outermost = False
    #: The transaction of the attempt under way.
    transaction: UnitTransaction | None = None
    effects: EffectQueue | None = None
    #: The transient error that ended the last attempt.
    conflict: BaseException | None = None
    #: Whether its transaction has committed, with something in it: then there is no other attempt.
    committed = False
    #: A kill or timeout that arrived after the vote, to be raised when all is done.
    arrived: BaseException | None = None
    #: The streamed response that goes on in a second unit of work.
    stream: Any = None
    #: How many attempts may follow the one under way.
    attempts_left = 0
    #: The leases of the attempt that has conflicted, whose databases have changed since.
    behind: Sequence[Leases] = ()
    #: What ends this attempt even if it is swallowed: an object's conflict, or its foreign use.
    refused: BaseException | None = None
    #: Its turn at an object that it has conflicted over.
    turn: Turn | None = None
    #: Whether it has left its work to another, see `step_aside`.
    aside = False
    #: Tells the name of who asks, for undo logs; called before a commit that writes.
    user: Callable[[], str | None] | None = None
    #: Called with the result; true: abort instead of committing.
    veto: Callable[[Any], object] | None = None
    #: Whether another attempt is possible.
    replayable: Callable[[], bool] | None = None
    #: On the monotonic clock; after it there is no further attempt. 0: set at the start.
    deadline = 0.0
    _leases: dict[int, Lease] | None = None

    def __init__(
        self, manager: Any = None, description: str = "", *, reading: bool = False
    ) -> None:
        self.manager = raw_manager(manager)
        self.description = description
        self.reading = reading

    @property
    def label(self) -> str:
        """What logs call it."""
        return self.description or "a unit of work"

    def start(self) -> "Unit":
        """Make it the unit of work of this greenlet."""
        self.outer, slot.unit = slot.unit, self
        if not self.deadline:
            self.deadline = time.monotonic() + settings_of_process().request_deadline
        return self

    def step_aside(self) -> None:
        """Leave the work to a unit of work that begins inside this one; nothing was done yet."""
        self.aside = True
        if self.transaction is not None:
            self.transaction.nti_abort()
        self.release()

    def leave(self) -> None:
        """The unit of work around it is the greenlet's again; the leases stay."""
        slot.unit, self.outer = self.outer, None

    def end(self) -> None:
        """Give back its leases; the unit of work around it is the greenlet's again."""
        self.leave()
        self.finish()

    def finish(self) -> None:
        """Give back its leases and its turn, and let go of whoever answers its questions."""
        if self.turn is not None:
            self.end_turn()
        self.release()
        self.veto = self.user = self.replayable = None

    def connection(self, name: str = "", db: Any = None) -> Any:
        """The leased connection to the process's database, to `db`, or to one beside it.

        :raises KeyError: no database of that name is beside it.
        :raises ServiceUnavailable: all connections stay leased.
        """
        primary = self._lease(db if db is not None else database_of_process())
        if not name or name == primary.db().database_name:
            return primary
        return primary.get_connection(name)

    def _lease(self, db: Any) -> Any:
        leases = self._leases
        if leases is None:
            leases = self._leases = {}
        lease = leases.get(id(db))
        if lease is None:
            lease = leases[id(db)] = leases_of(db).take(self)
        return lease.connection

    def refresh(self) -> None:
        """A transaction has begun: what it has leased before sees what is stored by now."""
        if self._leases:
            for lease in self._leases.values():
                refresh(lease.connection)

    def leases(self) -> list[Lease]:
        """What it has leased, for reports."""
        return list((self._leases or {}).values())

    def release(self) -> None:
        """Give back what is leased."""
        self.refused = None
        leases, self._leases = self._leases, None
        if leases:
            for lease in leases.values():
                lease.give_back()

    def catch_up(self) -> None:
        """Before another attempt: wait until this process knows what others have committed."""
        behind, self.behind = self.behind, ()
        for leases in behind:
            leases.catch_up()

    def take_effects(self) -> EffectQueue | None:
        """The effects of the transaction that has ended; the unit forgets them."""
        queue, self.effects = self.effects, None
        self.transaction = None
        return queue

    def end_turn(self) -> None:
        """Pass on the turn that it has, if any."""
        turn, self.turn = self.turn, None
        if turn is not None:
            turn.end()

    def annotate(self, tx: Any) -> None:
        """Describe a transaction that is about to be committed, its request and its user."""
        if request_id := current_request_id():
            tx.setExtendedInfo("request_id", request_id)
        if self.description:
            noted = tx.description
            tx.description = f"{self.description}\n{noted}" if noted else self.description
        if self.user is not None and not tx.user:
            name = self.user()
            if name:
                tx.user = str(name)


def raw_manager(manager: Any = None) -> Any:
    """The manager behind a thread-local one; the greenlet's own when None."""
    if manager is None or manager is transaction.manager:
        return greenlets_own()
    return getattr(manager, "manager", manager)


def run(func: Callable[..., T], *args: Any, attempts: int | None = None, manager: Any = None) -> T:
    """Call `func(*args)` as a unit of work; what it returned, once that is committed.

    Inside of another unit of work of the same manager it joins that: it is
    neither committed nor tried again by itself. Else a transaction begins, in
    explicit mode; when `func` returns it is committed, and when anything leaves
    `func`, kills and timeouts included, it is aborted. After a transient error
    (a conflict) it is tried again, a short random time later.

    :param attempts: how often it is tried, the first included, >= 1; None: the
        setting `attempts`.
    :param manager: a transaction manager; None: `transaction.manager`.
    :raises transaction.interfaces.TransientError: it conflicted at every attempt.
    """
    raw = raw_manager(manager)
    outer = slot.unit
    while outer is not None:
        if outer.manager is raw and outer.transaction is not None:
            return func(*args) if outer is slot.unit else _join(outer, func, args)
        outer = outer.outer
    unit = Unit(raw, describe(func))
    return carry_out(unit, func, args, attempts)


class _Joined:
    """Stands for a unit of work further out, while a nested `run` takes part in it.

    Between the two are units of work of other managers; what they have leased stays usable.
    """

    def __init__(self, unit: Unit, inner: Unit | None) -> None:
        self.__dict__.update(unit=unit, outer=inner)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["unit"], name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.__dict__["unit"], name, value)


def _join(unit: Unit, func: Callable[..., T], args: tuple[Any, ...]) -> T:
    """Call `func` as a part of a unit of work that is not the innermost."""
    inner = slot.unit
    slot.unit = cast(Unit, _Joined(unit, inner))
    try:
        return func(*args)
    finally:
        slot.unit = inner


def carry_out(
    unit: Unit, func: Callable[..., T], args: tuple[Any, ...] = (), attempts: int | None = None
) -> T:
    """Run a new unit of work from begin to end."""
    loop = loop_of(attempts if attempts is not None else settings_of_process().attempts)
    unit.start()
    try:
        return loop.carry_out(unit, func, args)  # type: ignore[no-any-return]
    finally:
        unit.end()


def connection(name: str = "") -> Any:
    """The ZODB connection that the unit of work under way has leased, leased now if need be.

    :param name: the database's name, where there are several beside each other.
    :raises NoUnitOfWork: none runs in this greenlet, or the process has no database.
    :raises KeyError: there is no such database.
    :raises ServiceUnavailable: all connections stay leased.
    """
    return current_unit().connection(name)


def allow_writes() -> None:
    """Let the unit of work under way write although it is a GET or HEAD request.

    :raises NoUnitOfWork: none runs in this greenlet.
    """
    current_unit().reading = False


def describe(func: Callable[..., object]) -> str:
    """A function's name for undo logs, module and all."""
    func = getattr(func, "func", func)
    name = getattr(func, "__qualname__", type(func).__qualname__)
    return f"{getattr(func, '__module__', None) or type(func).__module__}.{name}"
