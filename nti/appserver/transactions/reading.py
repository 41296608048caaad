"""Whether a unit of work that should only read has written, and what is said then.

It runs in the unit's greenlet, before the commit; nothing here waits.
"""

import logging
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ZODB.utils import oid_repr

from nti.appserver.errors import AppServerError
from nti.appserver.transactions.databases import settings_of_process
from nti.appserver.transactions.effects import EffectQueue
from nti.appserver.transactions.instruments import REFUSED_READS

if TYPE_CHECKING:
    from nti.appserver.transactions.units import Unit

logger = logging.getLogger("nti.appserver.transactions")

#: Objects and data managers that a report about a reading request's writes names.
_NAMED = 5


class WriteInRead(AppServerError):
    """A request that should only read, GET or HEAD, has written; see `strict_reads`."""


def writers(tx: Any) -> list[Any]:
    """A transaction's data managers that have joined to store something; effects have not."""
    return [each for each in tx._resources if not isinstance(each, EffectQueue) and _writes(each)]


def named(managers: Iterable[Any]) -> str:
    """What data managers would store, the first few of it: for a report."""
    written = [one for each in managers for one in _written(each)]
    more = f" and {len(written) - _NAMED} more" if len(written) > _NAMED else ""
    return ", ".join(written[:_NAMED]) + more


def discards_writes(unit: "Unit") -> bool:
    """Whether a reading unit of work has written, which is reported and discarded.

    :raises WriteInRead: it has, and the setting `strict_reads` refuses that.
    """
    found = writers(unit.transaction)
    if not found:
        return False
    REFUSED_READS.inc()
    message = f"{unit.label} should only read, and wrote {named(found)}"
    if settings_of_process().strict_reads:
        raise WriteInRead(message)
    logger.warning(
        "%s; what it wrote is discarded. Use another method, or call "
        "nti.appserver.transactions.allow_writes()",
        message,
    )
    return True


def _written(manager: Any) -> list[str]:
    """What a data manager would store: a ZODB connection's objects, else the manager itself."""
    changed = getattr(manager, "_registered_objects", None)
    if not changed:
        return [repr(manager)]
    return [f"{type(each).__name__} {oid_repr(each._p_oid)}" for each in changed]


def _writes(manager: Any) -> bool:
    """Whether a data manager has written: most join for that alone.

    zope.sqlalchemy's join when their session first reads, and know whether it
    has flushed a change since; what it has not flushed yet the session knows.
    """
    known = sys.modules.get("zope.sqlalchemy.datamanager")
    if known is None or not isinstance(manager, known.SessionDataManager):
        return True
    session = manager.session
    if session is None:  # it is over
        return False
    changed = known.STATUS_CHANGED
    state = getattr(known, "_SESSION_STATE", {}).get(session, changed)
    return state == changed or bool(session.new or session.dirty or session.deleted)
