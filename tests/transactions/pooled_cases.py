"""Units of work in the server's pooled greenlets; `test_greenlets` runs these, patched."""

import threading
from collections.abc import Callable
from typing import Any

import gevent
import pytest
import transaction
import ZODB

from nti.appserver.http.pool import Pool
from nti.appserver.settings import Settings
from nti.appserver.transactions import configure, connection, run, use_database

Serve = Callable[[Callable[[], object]], Any]


@pytest.fixture
def serve() -> Serve:
    """Run something as a request is run, in one greenlet after the other requests."""
    configure(Settings())
    use_database(ZODB.DB(None))
    failed: list[BaseException] = []
    pool = Pool(gevent.getcurrent(), failed.append)

    def one(func: Callable[[], object]) -> Any:
        found: list[Any] = []
        pool.run(lambda *_: found.append(func()), None, None)
        assert not failed
        return found.pop()

    return one


def unit() -> tuple[Any, Any]:
    """The greenlet and the raw transaction manager of a unit of work."""
    return run(lambda: (gevent.getcurrent(), transaction.manager.manager))


def test_requests_of_one_greenlet_share_a_manager_that_is_as_new(serve: Serve) -> None:
    greenlet, manager = serve(unit)
    assert serve(unit) == (greenlet, manager)
    assert not manager.explicit
    assert manager._txn is None


class Synchronizer:
    """Something that a transaction manager is to tell of its transactions."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def beforeCompletion(self, tx: Any) -> None:
        self.told.append("before")

    def afterCompletion(self, tx: Any) -> None:
        self.told.append("after")

    def newTransaction(self, tx: Any) -> None:
        self.told.append("new")


SYNCHRONIZER = Synchronizer()


def _leave_a_transaction() -> None:
    transaction.begin()


def _leave_it_explicit() -> None:
    transaction.manager.explicit = True


def _leave_a_synchronizer() -> None:
    transaction.manager.registerSynch(SYNCHRONIZER)


def _leave_an_attribute_of_the_manager() -> None:
    transaction.manager.manager.left = True


def _leave_an_attribute_of_the_greenlet() -> None:
    transaction.manager.left = True


def _leave_another_manager() -> None:
    transaction.manager.manager = transaction.TransactionManager(explicit=True)


class _Foreign:
    """Something that takes the place of a manager without being one."""

    _txn = None


def _leave_something_foreign() -> None:
    transaction.manager.manager = _Foreign()


@pytest.mark.parametrize(
    "leave",
    [
        _leave_a_transaction,
        _leave_it_explicit,
        _leave_a_synchronizer,
        _leave_an_attribute_of_the_manager,
        _leave_an_attribute_of_the_greenlet,
        _leave_another_manager,
        _leave_something_foreign,
    ],
)
def test_nothing_that_a_request_leaves_in_its_manager_is_found_by_the_next(
    serve: Serve, leave: Callable[[], None]
) -> None:
    def left_behind() -> Any:
        found = unit()
        leave()
        return found

    greenlet, manager = serve(left_behind)
    SYNCHRONIZER.told.clear()
    assert serve(lambda: transaction.manager.manager._txn) is None
    another, other = serve(unit)
    assert another is greenlet
    assert other is not manager
    assert other._txn is None
    assert not other.explicit
    assert not hasattr(other, "left")
    assert not hasattr(transaction.manager, "left")
    assert not SYNCHRONIZER.told


def test_a_manager_that_was_there_before_the_unit_of_work_is_used(serve: Serve) -> None:
    def both() -> tuple[Any, Any]:
        return transaction.manager.manager, unit()[1]

    before, inside = serve(both)
    assert before is inside
    assert serve(unit)[1] is not before


def test_other_greenlet_locals_are_forgotten_after_each_request(serve: Serve) -> None:
    local = threading.local()

    def note() -> Any:
        found = getattr(local, "left", None)
        local.left = run(lambda: connection().root() is not None)
        return found

    assert serve(note) is None
    assert serve(note) is None


def test_a_greenlet_of_a_burst_takes_its_manager_with_it() -> None:
    configure(Settings())
    pool = Pool(gevent.getcurrent(), lambda problem: pytest.fail(str(problem)), spare=0)
    seen: list[Any] = []
    for _ in range(2):
        pool.run(lambda *_: seen.append((gevent.getcurrent(), unit()[1])), None, None)
    (first, manager), (second, other) = seen
    assert first.dead
    assert second.dead
    assert first is not second
    assert manager is not other
    assert not first.kept
    assert not first.links
