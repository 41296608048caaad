"""Opening the database that settings ask for, once its worker may.

Runs in a worker's main greenlet while it starts, and waits: for a server that
is not there yet, or for the lock of a FileStorage that an older worker holds.
"""

import os
from pathlib import Path
from typing import Any

from nti.appserver.errors import ConfigurationError
from nti.appserver.settings import Settings
from nti.appserver.worker.roster import roster

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


def check_owner(settings: Settings, workers: int) -> None:
    """Whether so many workers can share the storage.

    :raises ConfigurationError: one process owns such a storage.
    """
    scheme = settings.storage.partition(":")[0]
    if workers > 1 and scheme in OWNED_BY_ONE:
        raise ConfigurationError(
            f"setting storage is {settings.storage!r} with {workers} workers",
            "a storage that several processes can open",
            "set storage to `embedded` (a ZEO server that all workers share) or to a zeo:// "
            "address, or start gunicorn with --workers 1",
        )


def open_for(settings: Settings) -> Any:
    """The database that the setting `storage` names, open; None for `none`."""
    make_var(settings)
    check_owner(settings, roster().wanted)
    return None
