"""Opening the database that settings ask for, once its worker may.

Runs in a worker's main greenlet while it starts, and waits: for a server that
is not there yet, or for the lock of a FileStorage that an older worker holds.
"""

import os
from pathlib import Path
from typing import Any

from nti.appserver import health
from nti.appserver.application.configured import at_end
from nti.appserver.errors import ConfigurationError
from nti.appserver.settings import Settings
from nti.appserver.storage import open_database
from nti.appserver.transactions import use_database
from nti.appserver.worker.roster import roster, waiting_for_predecessor

#: Storages that one process owns; a second worker would wait for the lock, or see other data.
OWNED_BY_ONE = ("file", "memory")


def make_var(settings: Settings) -> Path:
    """The folder that the setting `var` names, made with mode 0700 when it is not there.

    :raises ConfigurationError: it cannot be made.
    """
    folder = Path(settings.var)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as problem:
        raise ConfigurationError(
            f"the folder var, {str(folder)!r}, cannot be made ({problem.strerror})",
            "a folder that this user may write",
            "start where it may be made, or set var",
        ) from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigurationError(
            f"the folder var, {str(folder)!r}, cannot be written",
            "a folder that this user may write",
            f"give it to the user who runs gunicorn (now number {os.geteuid()}), or set var",
        )
    return folder


def owned_by_one(settings: Settings) -> bool:
    """Whether only one process at a time can have the storage."""
    return settings.storage.partition(":")[0] in OWNED_BY_ONE


def check_owner(settings: Settings, workers: int) -> None:
    """Whether so many workers can share the storage.

    :raises ConfigurationError: one process owns such a storage.
    """
    if workers > 1 and owned_by_one(settings):
        raise ConfigurationError(
            f"setting storage is {settings.storage!r} with {workers} workers",
            "a storage that several processes can have open",
            "start gunicorn with --workers 1, or set storage to `embedded` or zeo://",
        )


def open_for(settings: Settings) -> Any:
    """The database that the setting `storage` names, open and named to units of work.

    None for `none`. Where only one process can have it open, an older worker
    that has is told to leave, and given `graceful_timeout` for it.

    :raises ConfigurationError: it cannot be opened, or so many workers cannot share it.
    """
    make_var(settings)
    if settings.storage == "none":
        return None
    check_owner(settings, roster().wanted)
    if owned_by_one(settings):
        with waiting_for_predecessor() as patience:
            database = open_database(settings=settings, wait=max(patience, settings.storage_wait))
    else:
        database = open_database(settings=settings)
    at_end(database.close)
    at_end(health.register("storage", lambda: problem_of(database.storage)))
    use_database(database, settings)
    return database


def problem_of(storage: Any) -> str:
    """Why a storage cannot be used now; '' when it can, or has no server that it could lose."""
    connected = getattr(storage, "is_connected", None)
    return "" if connected is None or connected() else "not connected to the ZEO server"
