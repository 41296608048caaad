"""Whether a storage lets greenlets run while it waits: asked of each one when it is opened.

A driver written in C waits where gevent does not see it, and with it the whole worker. So a query
that takes a moment is made, and a greenlet counts meanwhile whether the hub runs.

Runs in the main greenlet of a patched process, before it accepts; a check takes about
QUERY_SECONDS and switches.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import gevent
from ZEO.ClientStorage import ClientStorage as StockClientStorage

from nti.appserver.hub import native

logger = logging.getLogger(__name__)

#: What ZODB calls a database that has no name.
UNNAMED = "unnamed"

QUERY_SECONDS = 0.1

BEAT_SECONDS = 0.002

#: What a RelStorage is asked, by the module of its adapter: a query that waits, or computes, for
#: about QUERY_SECONDS.
QUERIES = {
    "postgresql": f"SELECT pg_sleep({QUERY_SECONDS})",
    "mysql": f"SELECT SLEEP({QUERY_SECONDS})",
    "sqlite": (
        "WITH RECURSIVE count(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM count WHERE n < 200000) "
        "SELECT max(n) FROM count"
    ),
}

#: The driver to take in place of one that blocks.
COOPERATIVE = {
    "sqlite3": "gevent sqlite3",
    "psycopg2": "gevent psycopg2",
    "MySQLdb": "gevent MySQLdb",
    "C MySQL Connector/Python": "gevent MySQLdb",
}


@dataclass(frozen=True)
class Finding:
    """What a storage does to the greenlets beside the one that uses it.

    :param storage: for people: the storage, its database and its driver.
    :param beats: how often another greenlet ran during the query.
    :param mend: what to change if it never did.
    """

    storage: str
    beats: int
    mend: str

    @property
    def is_cooperative(self) -> bool:
        return self.beats > 0


def check(name: str, storage: Any) -> list[Finding]:
    """Probe a storage and those within it, and log what was found; nothing in an unpatched process.

    :param name: of the database, for the log.
    :return: nothing of storages that live in this process and have nobody to wait for.
    """
    findings = []
    if not native.is_patched():
        return []
    where = "the storage" if name == UNNAMED else f"storage {name}"
    for each in _within(storage):
        try:
            finding = _probe(each)
        except Exception as problem:
            logger.warning("%s: %s could not be checked: %s", where, _kind(each), problem)
            continue
        if finding is None:
            logger.debug("%s: %s waits for nobody", where, _kind(each))
            continue
        findings.append(finding)
        if finding.is_cooperative:
            logger.info("%s: %s is cooperative", where, finding.storage)
        else:
            logger.warning(
                "%s: %s blocks the hub: no other greenlet of this worker runs while it waits; %s",
                where,
                finding.storage,
                finding.mend,
            )
    return findings


def _within(storage: Any) -> Iterator[Any]:
    """The storages behind wrappers: DemoStorage has two, BlobStorage and others have one."""
    inner = [getattr(storage, name, None) for name in ("base", "changes")]
    if not any(inner):
        with suppress(AttributeError):
            inner = [storage._BlobStorage__storage]
    found = [each for each in inner if each is not None]
    if not found:
        yield storage
    for each in found:
        yield from _within(each)


def _probe(storage: Any) -> Finding | None:
    """None: there is nobody to wait for."""
    if isinstance(storage, StockClientStorage):
        beats = _beats_during(lambda: storage._call("ping"))
        return Finding(
            f"{_kind(storage)} of {storage.getName()}",
            beats,
            "open it in a worker of nti.appserver, or after prepare_clients",
        )
    adapter = getattr(storage, "_adapter", None)
    if adapter is None:
        return None
    kind = type(adapter).__module__.split(".")[-2]
    driver = adapter.driver.__name__
    other = COOPERATIVE.get(driver)
    return Finding(
        f"{_kind(storage)} on {kind} by the driver {driver!r}",
        _query_beats(adapter, QUERIES[kind]),
        f"set its driver to {other!r} (driver={other})" if other else "take another driver",
    )


def _query_beats(adapter: Any, query: str) -> int:
    manager = adapter.connmanager
    connection, cursor = manager.open_for_load()
    try:

        def ask() -> None:
            cursor.execute(query)
            cursor.fetchall()

        return _beats_during(ask)
    finally:
        manager.rollback_and_close(connection, cursor)


def _beats_during(wait: Callable[[], object]) -> int:
    """How often another greenlet ran while `wait` did."""
    beats = 0

    def beat() -> None:
        nonlocal beats
        while True:
            beats += 1
            gevent.sleep(BEAT_SECONDS)

    heart = gevent.spawn(beat)
    try:
        wait()
        return beats
    finally:
        heart.kill()


def _kind(storage: Any) -> str:
    return type(storage).__name__
