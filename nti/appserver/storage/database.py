"""Opening the database that a URI names.

Runs in the main greenlet of a worker or command. Waiting is by `time.sleep`,
which switches in a patched process; no lock is held meanwhile.
"""

import os

from ZODB.DB import DB
from ZODB.POSException import StorageError

from nti.appserver.errors import ConfigurationError
from nti.appserver.settings import Settings, load_settings
from nti.appserver.storage import fork, locks, probe, psycopg, syncs, uris, waiting, zconfig
from nti.appserver.storage.embedded.client import open_embedded
from nti.appserver.storage.wrap import database_around
from nti.appserver.storage.zeo.client import ClientDefaults, install

#: A server is given so long to start, whatever is said of waiting for others.
MINIMAL_PATIENCE_SECONDS = 10.0


def open_database(
    uri: str = "", settings: Settings | None = None, *, wait: float | None = None
) -> DB:
    """The database that `uri` names, open.

    It belongs to this process: in a child that is forked later, each use of it
    is an error that says so.

    :param uri: a zodburi (file, memory, demo, zeo, zconfig, postgresql, sqlite)
        or `embedded`; that of the settings when empty. A zconfig file opens all
        its databases as one multi-database; `#NAME` says which one is returned.
    :param settings: those of the environment when not given.
    :param wait: seconds, >= 0, to wait for a lock that another process holds, or for
        a server that is not there; the setting `storage_wait` when not given.
    :raises ConfigurationError: the URI does not name a storage that can be
        opened, its owner has not let go of it or its server not come in time.
    """
    settings = settings if settings is not None else load_settings(environ=os.environ)
    uri = uri or settings.storage
    patience = settings.storage_wait if wait is None else wait
    prepare_clients(settings)
    shown = uris.without_password(uri)
    database = waiting.until_open(lambda: _open(uri, settings, patience), shown, patience)
    for name, each in _all(database):
        fork.guard(each, shown)
        probe.check(name, each.storage)
        syncs.share_syncs(each)
    return database


def _all(database: DB) -> list[tuple[str, DB]]:
    """The database and those opened with it, by their names."""
    return sorted({**database.databases, database.database_name: database}.items())


def prepare_clients(settings: Settings) -> None:
    """Have storages that this process opens wait cooperatively, and ZEO's not for ever.

    Called after patching, before the application is imported; again with other
    settings it changes what later clients get.
    """
    locks.install()
    psycopg.wait_by_switching()
    install(
        ClientDefaults(
            cache_folder=os.path.join(os.path.abspath(settings.var), "cache"),
            cache_size=settings.cache_size,
            patience=settings.storage_timeout,
            wait_timeout=settings.storage_timeout,
        )
    )


def _open(uri: str, settings: Settings, patience: float) -> DB:
    """Once, without waiting for others.

    :raises ConfigurationError: waiting would not help.
    """
    if uri == "none":
        raise ConfigurationError(
            "storage is 'none'", "a storage", "set storage = embedded, or a zodburi"
        )
    if uri == "embedded":
        return open_embedded(settings, max(patience, MINIMAL_PATIENCE_SECONDS))
    try:
        return _open_uri(uri, settings)
    except FileNotFoundError as problem:
        raise ConfigurationError(
            f"storage {uris.without_password(uri)!r}: {problem.filename!r} cannot be made",
            "a file in a folder that exists",
            "make the folder, or mend the setting storage",
        ) from problem
    except Exception as problem:
        if waiting.is_worth_it(problem) or not _is_of_storage(problem):
            raise
        raise ConfigurationError(
            f"storage {uris.without_password(uri)!r} cannot be opened: "
            f"{type(problem).__name__}: {problem}"
        ) from problem


def _open_uri(uri: str, settings: Settings) -> DB:
    if uri.startswith("zconfig:"):
        return zconfig.open_databases(uri, settings)
    factory, options = uris.resolve(uri, settings)
    if "connection_pool_size" not in uri:
        # Past its pool size ZODB logs a warning with each connection.
        options["pool_size"] = settings.connection_limit
    return database_around(factory(), **options)


def _is_of_storage(problem: Exception) -> bool:
    """Whether an error of opening says all, so that nobody needs its traceback."""
    return isinstance(problem, (OSError, StorageError)) or (
        type(problem).__module__.startswith("relstorage.")
    )
