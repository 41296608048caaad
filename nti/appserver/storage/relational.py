"""RelStorage from a URI: objects in PostgreSQL, or in SQLite files.

zodburi's own way cannot name a unix socket, a port that is not written or an option of libpq, and
takes a driver that blocks the hub where none is named. RelStorage is an extra, so it
is imported when such a URI is opened. Nothing here waits; what `resolve` returns does.
"""

import hashlib
import os
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from nti.appserver.errors import ConfigurationError
from nti.appserver.hub import native
from nti.appserver.settings import MIB, Settings
from nti.appserver.storage.mute import bound_waits

POSTGRESQL = ("postgresql", "postgres")
SQLITE = ("sqlite",)

#: Of blobs that PostgreSQL keeps, so many bytes of copies stay on the disk of this machine.
BLOB_CACHE_BYTES = 1024 * MIB

#: Parameters of a connection that libpq knows; the others in a query are RelStorage's and ZODB's.
_LIBPQ = (
    "host hostaddr port dbname user password passfile connect_timeout client_encoding options "
    "application_name keepalives keepalives_idle keepalives_interval keepalives_count "
    "tcp_user_timeout sslmode sslcompression sslcert sslkey sslpassword sslrootcert sslcrl "
    "ssl_min_protocol_version ssl_max_protocol_version gssencmode krbsrvname channel_binding "
    "service target_session_attrs"
)
LIBPQ = frozenset(_LIBPQ.split())

#: Seconds until a connection is given up: not taken, or over a network that is cut.
DEFAULTS = {
    "connect_timeout": "10",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
}

Resolved = tuple[Callable[[], Any], dict[str, Any]]


def resolve(uri: str, settings: Settings) -> Resolved:
    """What opens the storage that `uri` names, and the options of its query that are ZODB's.

    :raises ConfigurationError: RelStorage is not installed, or the URI names no database.
    :raises ValueError: an option of the URI cannot be read.
    """
    try:
        from relstorage.options import Options
        from relstorage.storage import RelStorage
        from relstorage.zodburi_resolver import RelStorageURIResolver
    except ImportError as problem:
        raise ConfigurationError(
            f"storage {uri.partition(':')[0]}:// needs RelStorage, which is not here ({problem})",
            mend="pip install nti.appserver[relstorage]",
        ) from None
    if native.is_patched():
        bound_waits(settings.storage_timeout)
    query = dict(parse_qsl(urlsplit(uri).query, strict_parsing=bool(urlsplit(uri).query)))
    with_adapter = _sqlite if uri.startswith(SQLITE) else _postgresql
    make_adapter, given = with_adapter(uri, query, settings)
    options, rest = RelStorageURIResolver(None).interpret_kwargs(given)

    def open_storage() -> Any:
        made = Options(**options)
        return RelStorage(adapter=make_adapter(made), options=made)

    return open_storage, rest


MakeAdapter = Callable[[Any], Any]


def _postgresql(
    uri: str, query: dict[str, str], settings: Settings
) -> tuple[MakeAdapter, dict[str, str]]:
    parts = urlsplit(uri)
    named = {
        "host": unquote(parts.hostname or ""),
        "port": str(parts.port or ""),
        "user": unquote(parts.username or ""),
        "password": unquote(parts.password or ""),
        "dbname": unquote(parts.path[1:]),
    }
    parameters = {name: value for name, value in named.items() if value}
    parameters.update({name: value for name, value in query.items() if name in LIBPQ})
    if not {"dbname", "service"} & set(parameters):
        raise ConfigurationError(
            "storage is a postgresql:// URI without a database",
            "postgresql://USER:PASSWORD@HOST:PORT/DATABASE, or "
            "postgresql://USER@/DATABASE?host=FOLDER for a unix socket",
        )
    for name, value in DEFAULTS.items():
        parameters.setdefault(name, value)
    connection = dsn(parameters)
    identity = {name: parameters.get(name) for name in ("host", "port", "dbname", "service")}
    digest = hashlib.sha256(repr(identity).encode()).hexdigest()[:12]
    given = {
        "blob_dir": os.path.join(os.path.abspath(settings.var), "cache", f"blobs-{digest}"),
        "blob_cache_size": str(BLOB_CACHE_BYTES),
        # Less than a wait for the database may last, so that this is what ends it.
        "commit_lock_timeout": str(max(1, int(settings.storage_timeout / 2))),
        **{name: value for name, value in query.items() if name not in LIBPQ},
    }

    def make(options: Any) -> Any:
        from relstorage.adapters.postgresql import PostgreSQLAdapter

        return PostgreSQLAdapter(dsn=connection, options=options)

    return make, given


def dsn(parameters: Mapping[str, str]) -> str:
    """A connection string as libpq reads it."""

    def quoted(value: str) -> str:
        escaped = value.replace("\\", "\\\\").replace("'", "\\'")
        return f"'{escaped}'"

    return " ".join(f"{name}={quoted(value)}" for name, value in parameters.items())


def _sqlite(
    uri: str, query: dict[str, str], settings: Settings
) -> tuple[MakeAdapter, dict[str, str]]:
    folder = uri.partition("://")[2].partition("?")[0] or query.pop("data_dir", "")
    if not folder:
        raise ConfigurationError(
            "storage is a sqlite:// URI without a folder",
            "sqlite:///FOLDER, which is made when it is not there",
        )
    folder = os.path.abspath(folder)
    given = {"blob_dir": os.path.join(folder, "blobs"), "shared_blob_dir": "true", **query}
    if native.is_patched():
        # RelStorage would take the plain one, which keeps the hub from running.
        given.setdefault("driver", "gevent sqlite3")

    def make(options: Any) -> Any:
        from relstorage.adapters.sqlite.adapter import Sqlite3Adapter

        os.makedirs(folder, mode=0o700, exist_ok=True)
        return Sqlite3Adapter(folder, pragmas={}, options=options)

    return make, given
