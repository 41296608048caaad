"""The database of this process, and the settings that its units of work follow.

Called while a process starts, before units of work run; nothing here waits.
"""

from typing import Any

from nti.appserver.settings import Settings
from nti.appserver.transactions.current import NoUnitOfWork
from nti.appserver.transactions.leases import Leases
from nti.appserver.transactions.turns import share_turns


class _Process:
    """What `use_database` and `configure` have set."""

    settings: Settings = Settings()
    database: Any = None


_process = _Process()


def configure(settings: Settings) -> None:
    """Have the units of work of this process follow `settings`; the server does it."""
    _process.settings = settings
    share_turns(settings)


def settings_of_process() -> Settings:
    """The settings last given to `configure`, else the defaults."""
    return _process.settings


def use_database(db: Any, settings: Settings | None = None) -> None:
    """Name the database that `connection()` leases from.

    The server does it for its process; scripts and tests may. Databases that
    were opened with the same `databases` mapping are reached by their names and
    commit together. Its pool is allowed as many connections as may be leased.

    :param db: a `ZODB.DB`; None: this process has none.
    :param settings: as `configure` takes them, where given.
    """
    if settings is not None:
        configure(settings)
    _process.database = db
    if db is not None:
        leases_of(db)


def database_of_process() -> Any:
    """The database that `use_database` has named.

    :raises NoUnitOfWork: none was named.
    """
    if _process.database is None:
        raise NoUnitOfWork(
            "this process has no database; set `storage`, or call "
            "nti.appserver.transactions.use_database(db) first"
        )
    return _process.database


def leases_of(db: Any) -> Leases:
    """The bounded set of a database's connections."""
    try:
        return db._nti_leases  # type: ignore[no-any-return]
    except AttributeError:
        db._nti_leases = leases = Leases(db, settings_of_process)
        return leases
