"""A database in memory that this process's units of work use, and things that misbehave."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import transaction
import ZODB
from transaction.interfaces import TransientError

from nti.appserver.settings import Settings
from nti.appserver.transactions import configure, connection, run, use_database


@pytest.fixture(autouse=True)
def _tidy() -> Iterator[None]:
    """Each test begins with the default settings and no database, and leaves no transaction."""
    configure(Settings())
    yield
    assert transaction.manager.manager._txn is None, "a transaction was left behind"
    use_database(None)
    configure(Settings())


@pytest.fixture
def database() -> Iterator[Any]:
    """An empty database, which this process's units of work use."""
    database = ZODB.DB(None)
    use_database(database)
    yield database
    database.close()


@pytest.fixture
def stored(database: Any) -> Callable[[str], Any]:
    """What is in the root under a name, in a fresh unit of work; None: nothing."""

    def stored(name: str) -> Any:
        return run(lambda: connection().root().get(name))

    return stored


class Manager:
    """A data manager that notes what it is asked, and fails where it is told to."""

    def __init__(self, fail_in: str = "", problem: BaseException | None = None, key: str = "m"):
        self.fail_in = fail_in
        self.problem = problem or TransientError("told to")
        self.key = key
        self.asked: list[str] = []
        self.transaction_manager = transaction.manager.manager

    def sortKey(self) -> str:
        return self.key

    def _asked(self, what: str) -> None:
        self.asked.append(what)
        if what == self.fail_in:
            raise self.problem

    def __getattr__(self, name: str) -> Any:
        if name in ("tpc_begin", "commit", "tpc_vote", "tpc_finish", "tpc_abort", "abort"):
            return lambda tx: self._asked(name)
        raise AttributeError(name)


def join(fail_in: str = "", problem: BaseException | None = None, key: str = "m") -> Manager:
    """Have such a data manager take part in the transaction under way."""
    manager = Manager(fail_in, problem, key)
    transaction.get().join(manager)
    return manager
