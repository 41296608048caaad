"""Opening the database that a URI names.

Runs in the main greenlet of a worker or command. Waiting is by `time.sleep`,
which switches in a patched process; no lock is held meanwhile.
"""

import os
from typing import TYPE_CHECKING

import zodburi
from ZODB.DB import DB

from nti.appserver.errors import ConfigurationError
from nti.appserver.hub.locks import WaitingRLock
from nti.appserver.settings import Settings, load_settings
from nti.appserver.storage import fork, waiting, zconfig
from nti.appserver.storage.embedded.client import open_embedded
from nti.appserver.storage.zeo.client import ClientDefaults, install

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

#: Other names of zodburi's schemes.
ALIASES = {"postgresql": "postgres"}

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
    :param wait: seconds, >= 0, to wait for a lock that another process holds;
        the setting `storage_wait` when not given.
    :raises ConfigurationError: the URI does not name a storage that can be
        opened, or its owner has not let go of it in time.
    """
    settings = settings if settings is not None else load_settings(environ=os.environ)
    uri = uri or settings.storage
    patience = settings.storage_wait if wait is None else wait
    prepare_clients(settings)
    database = waiting.until_free(lambda: _open(uri, settings, patience), uri, patience)
    for each in {database, *database.databases.values()}:
        each._lock = WaitingRLock()  # greenlets and native threads open connections
        fork.guard(each, uri)
    return database


def prepare_clients(settings: Settings) -> None:
    """Have ZEO clients of this process, whoever opens them, wait cooperatively and not for ever.

    Called after patching, before the application is imported; again with other
    settings it changes what later clients get.
    """
    install(
        ClientDefaults(
            cache_folder=os.path.join(os.path.abspath(settings.var), "cache"),
            cache_size=settings.cache_size,
            patience=settings.storage_timeout,
            wait_timeout=settings.storage_timeout,
        )
    )


def _open(uri: str, settings: Settings, patience: float) -> DB:
    if uri == "none":
        raise ConfigurationError(
            "storage is 'none'", "a storage", "set storage = embedded, or a zodburi"
        )
    if uri == "embedded":
        return open_embedded(settings, max(patience, MINIMAL_PATIENCE_SECONDS))
    scheme, colon, rest = uri.partition(":")
    if scheme == "zconfig":
        return zconfig.open_databases(uri)
    return _open_uri(ALIASES.get(scheme, scheme) + colon + rest, settings)


def _open_uri(uri: str, settings: Settings) -> DB:
    factory, options = _resolved(uri)
    if "connection_pool_size" not in uri:
        # Past its pool size ZODB logs a warning with each connection.
        options["pool_size"] = settings.connection_limit
    try:
        storage = factory()
    except FileNotFoundError as problem:
        raise ConfigurationError(
            f"storage {uri!r}: {problem.filename!r} cannot be made",
            "a file in a folder that exists",
            "make the folder, or mend the setting storage",
        ) from problem
    try:
        return DB(storage, **options)
    except BaseException:
        storage.close()
        raise


def _resolved(uri: str) -> "tuple[Callable[[], Any], dict[str, Any]]":
    try:
        factory, options = zodburi.resolve_uri(uri)
    except zodburi.NoResolverForScheme:
        raise ConfigurationError(
            f"storage is {uri!r}",
            "embedded, none, or a URI that begins with file://, memory://, demo:, zeo://, "
            "zconfig://, postgresql:// or sqlite://",
            "RelStorage's schemes come with: pip install nti.appserver[relstorage]",
        ) from None
    except (KeyError, ValueError) as problem:
        raise ConfigurationError(f"storage is {uri!r}: {problem}") from problem
    return factory, dict(options)
