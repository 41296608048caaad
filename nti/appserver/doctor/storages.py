"""Whether the site's storage can be reached, and lets greenlets run while it waits.

Runs in the rehearsal, patched. Only servers that take any number of clients are
asked: a file is locked by the site that runs, the embedded server is that
site's own.
"""

from typing import Any

from nti.appserver.errors import ConfigurationError
from nti.appserver.settings import Settings
from nti.appserver.storage import open_database, probe
from nti.appserver.storage.uris import without_password

#: Kinds of storage that are servers.
SERVERS = ("zeo", "postgresql", "mysql")

#: Seconds to wait for one.
PATIENCE = 5.0


def examine(settings: Settings) -> dict[str, Any]:
    """What the storage of the settings says.

    :return: empty where there is no server to ask; else `storage`, and either
        `unreachable` (why) or `blocks` (pairs of a storage and its mend) and
        `max_connections` (of a PostgreSQL server; 0: unknown).
    """
    if settings.storage.partition(":")[0] not in SERVERS:
        return {}
    shown = without_password(settings.storage)
    try:
        database = open_database(settings.storage, settings, wait=PATIENCE)
    except ConfigurationError as problem:
        return {"storage": shown, "unreachable": str(problem)}
    try:
        findings = probe.check(database.database_name, database.storage)
        return {
            "storage": shown,
            "blocks": [(each.storage, each.mend) for each in findings if not each.is_cooperative],
            "max_connections": _max_connections(database.storage),
        }
    finally:
        database.close()


def _max_connections(storage: Any) -> int:
    """What PostgreSQL lets in; 0 where it is none."""
    adapter = getattr(storage, "_adapter", None)
    if adapter is None or "postgresql" not in type(adapter).__module__:
        return 0
    manager = adapter.connmanager
    connection, cursor = manager.open_for_load()
    try:
        cursor.execute("SHOW max_connections")
        return int(cursor.fetchone()[0])
    finally:
        manager.rollback_and_close(connection, cursor)
