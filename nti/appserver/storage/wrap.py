"""A database around an open storage, which nobody is left with when that fails.

Opening a database loads its root, so it waits for the storage.
"""

from typing import Any

from ZODB.DB import DB


def database_around(storage: Any, **options: Any) -> DB:
    """The database of `storage`, with ZODB's options; whatever it raises, the storage is closed."""
    try:
        return DB(storage, **options)
    except BaseException:
        storage.close()
        raise
