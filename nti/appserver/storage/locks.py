"""The locks that storages in this process take.

ZODB finds its locks in `ZODB.utils`, where patching has put gevent's. Those lose a wake-up when
greenlets and native threads contend, and a site that uses a thread pool then stops.
ZODB holds its locks across waits (a commit lock from `tpc_begin` to the end), so ours are for
greenlets and native threads alike. What ZEO's I/O thread shares is native, see `storage.zeo`.
"""

import ZODB.DB
import ZODB.utils

from nti.appserver.hub.locks import WaitingCondition, WaitingLock, WaitingRLock


def install() -> None:
    """Have storages and databases that are made from now on use these locks."""
    if ZODB.utils.Lock is WaitingLock:
        return
    ZODB.utils.Lock = WaitingLock
    ZODB.utils.RLock = WaitingRLock
    ZODB.utils.Condition = WaitingCondition
    ZODB.DB.resource_counter_lock = WaitingLock()  # made when ZODB was imported
