"""Databases from a ZConfig file, all of them, as one multi-database.

zodburi opens the one database that a URI names; here the others in the file
are opened beside it, so that references and mounts between them work.
"""

import io
import os
import sys
from typing import Any
from urllib.parse import urlsplit

import ZConfig
from ZODB.DB import DB

from nti.appserver.errors import ConfigurationError
from nti.appserver.hub import native
from nti.appserver.settings import Settings
from nti.appserver.storage.mute import bound_waits
from nti.appserver.storage.wrap import database_around

SCHEMA = """
<schema>
  <import package="ZODB"/>
  <multisection type="ZODB.storage" attribute="storages"/>
  <multisection type="ZODB.database" attribute="databases"/>
</schema>
"""


def open_databases(uri: str, settings: Settings) -> DB:
    """Open every database of the file that `uri` names; return the one after `#`, or the first.

    A file that has only storages gives a database around the one named.

    :raises ConfigurationError: the file cannot be read, or has nothing of that name.
    """
    parts = urlsplit(uri)
    config = _parsed(os.path.normpath(parts.path or parts.netloc), uri)
    sections = config.databases or config.storages
    names = [section.name for section in sections]
    if not sections or (parts.fragment and parts.fragment not in names):
        raise ConfigurationError(
            f"storage is {uri!r}, and that file has {', '.join(map(repr, names)) or 'nothing'}",
            "the name of a <zodb> section in it",
        )
    if native.is_patched() and "relstorage" in sys.modules:  # the file has imported it
        bound_waits(settings.storage_timeout)
    wanted = names.index(parts.fragment) if parts.fragment else 0
    if not config.databases:
        return database_around(sections[wanted].open())
    return _open_all(sections)[wanted]


def _parsed(path: str, uri: str) -> Any:
    schema = ZConfig.loadSchemaFile(io.StringIO(SCHEMA))
    try:
        return ZConfig.loadConfig(schema, path)[0]
    except (ZConfig.ConfigurationError, OSError) as problem:
        raise ConfigurationError(f"storage is {uri!r}: {problem}") from problem


def _open_all(sections: list[Any]) -> list[DB]:
    together: dict[str, DB] = {}
    opened: list[DB] = []
    try:
        for section in sections:
            opened.append(section.open(together))
    except BaseException:
        for database in opened:
            database.close()
        raise
    return opened
