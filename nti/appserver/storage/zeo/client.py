"""ZEO's ClientStorage with its I/O on a native thread, and having everybody use it.

The methods of a storage are called by greenlets and by native threads, and switch
or wait; the callbacks of its server ("I/O thread") do neither.
"""

import hashlib
import logging
import os
import time
from dataclasses import dataclass
from types import FunctionType, SimpleNamespace
from typing import Any
from weakref import WeakSet

import ZEO.asyncio.futures
import ZEO.cache
import ZEO.ClientStorage
import ZODB.mvccadapter
import zodburi.resolvers
from ZEO.ClientStorage import ClientStorage as StockClientStorage
from ZODB.POSException import ConflictError, ReadOnlyError, StorageTransactionError

from nti.appserver.hub import native
from nti.appserver.hub.locks import WaitingLock
from nti.appserver.hub.threads import NativeThread
from nti.appserver.storage.zeo.cache import ClientCache, cache_for
from nti.appserver.storage.zeo.thread import ClientThread, relay

#: Where the I/O thread logs.
LOGGERS = ("ZEO.asyncio.base", "ZEO.asyncio.client", "ZEO.ClientStorage", "ZEO.cache")

MIB = 1024 * 1024

#: Times that a commit is put to the vote while others commit the same objects.
VOTES = 9


@dataclass(frozen=True)
class ClientDefaults:
    """What storages of this process have that do not say otherwise."""

    #: The folder of the caches; None: temporary files.
    cache_folder: str | None = None
    #: Bytes of a cache.
    cache_size: int = 20 * MIB
    #: Seconds, > 0, until a server that is mute is given up; None: never.
    patience: float | None = None
    #: Seconds, > 0, that a call waits for a server that is away.
    wait_timeout: float | None = None


defaults = ClientDefaults()

#: ZEO's check of a blob cache's size, whose sleeps stop its own thread and give it no hub.
_check_blob_cache = FunctionType(
    ZEO.ClientStorage._check_blob_cache_size.__code__,
    {
        **vars(ZEO.ClientStorage),
        "time": SimpleNamespace(sleep=native.sleep, time=time.time),
    },
)

#: For a forked child to abandon.
_storages: "WeakSet[ClientStorage]" = WeakSet()


class ClientStorage(StockClientStorage):  # type: ignore[misc]
    """A ZEO client storage for greenlets and native threads alike.

    Arguments are those of `ZEO.ClientStorage.ClientStorage`.
    """

    def __init__(self, addr: Any, storage: str = "1", **options: Any) -> None:
        self.patience = defaults.patience
        self.in_order = True
        options.setdefault("_client_factory", ClientThread)
        if not options.get("wait_timeout"):
            options["wait_timeout"] = defaults.wait_timeout
        size = options.setdefault("cache_size", defaults.cache_size)
        if options.get("cache") is None and not options.get("client"):
            digest = hashlib.sha256(repr((addr, storage)).encode()).hexdigest()[:12]
            options["cache"] = cache_for(defaults.cache_folder, f"zeo-{digest}", size)
        super().__init__(addr, storage, **options)
        self._commit_lock = WaitingLock()
        _storages.add(self)

    def set_server_addr(self, addr: Any) -> None:
        """I/O thread. The patched resolver would make a hub in it, with threads of its own."""
        if isinstance(addr, str):
            self._server_addr = addr
            return
        try:
            name = native.gethostbyaddr(addr[0])[0]
        except OSError:
            name = addr[0]
        self._server_addr = str((name, addr[1]))

    def notify_connected(self, conn: Any, info: dict[str, Any]) -> None:
        """I/O thread. A server started anew gives those object ids out again that nobody stored."""
        self._oids: list[bytes] = []
        super().notify_connected(conn, info)

    def new_oid(self) -> bytes:
        """An object id that the server has given to nobody else since this connection began.

        ZEO's own goes on with the ids of a server that is gone.

        :raises ReadOnlyError: the storage is read-only.
        """
        if self._is_read_only:
            raise ReadOnlyError
        while True:
            try:
                return self._oids.pop()
            except IndexError:
                generation = self._connection_generation
                given = self._call("new_oids")
                if generation == self._connection_generation:
                    self._oids[:0] = reversed(given)

    def catch_up(self) -> None:
        """Wait until this client knows of all that was committed before the call. Switches.

        An answer alone does not tell that: the invalidations of a commit may come after it.

        :raises ZEO.Exceptions.ClientDisconnected: the server is away.
        """
        self._server.catch_up()

    def tpc_vote(self, transaction: Any) -> list[bytes] | None:
        """Have the server accept the changes, resolving conflicts here where it asks for that.

        The object ids whose state was resolved, or None. ZEO's own takes a transaction for
        voted when its last vote has met conflicts once more, and its end then fails.

        :raises ConflictError: a conflict has no resolution, or others committed between
            all of `VOTES` votes.
        """
        changes = self._check_trans(transaction, "tpc_vote")
        try:
            for number in range(1, VOTES + 1):
                unsettled = self._vote(transaction, changes)
                if unsettled is None:
                    break
                if number == VOTES:
                    raise ConflictError(oid=unsettled["oid"], serials=unsettled["serials"])
        except StorageTransactionError:
            self._check_trans(transaction, "tpc_vote")  # says so if the connection is another
            raise
        except ConflictError as problem:
            # Should the cache have missed an invalidation, the next attempt shall not.
            if problem.oid is not None:
                self._cache.invalidate(problem.oid, None)
            raise
        if changes.exception:
            raise changes.exception
        return [*changes.server_resolved, *changes.client_resolved] or None

    def _vote(self, transaction: Any, changes: Any) -> dict[str, Any] | None:
        """Vote once. When that met conflicts: store their resolutions, and return the last one."""
        unsettled = None
        for found in self._call("vote", id(transaction)) or ():
            if not isinstance(found, dict):
                changes.server_resolve(found)
                continue
            unsettled = found
            oid, (committed, read) = found["oid"], found["serials"]
            data = self.tryToResolveConflict(oid, committed, read, found["data"])
            self._async("storea", oid, committed, data, id(transaction))
            changes.resolve(oid, data)
        return unsettled

    def _check_blob_size(self, bytes: int | None = None) -> None:
        """Any thread, the I/O thread too: a patched `threading.Thread` would run in it."""
        if self._blob_cache_size is None or self.shared_blob_dir or not self.blob_dir:
            return
        if bytes is not None and bytes < self._blob_cache_size_check:
            return
        self._blob_data_bytes_loaded = 0
        target = max(self._blob_cache_size - self._blob_cache_size_check, 0)
        check, folder = _check_blob_cache, self.blob_dir
        NativeThread(lambda: check(folder, target), f"{self.__name__} blob cache check").start()


def install(wanted: ClientDefaults | None = None) -> None:
    """Have all of this process use this client: zodburi, ZConfig and `ZEO.client` too.

    Called after patching and before the application is imported. Calling it
    again changes the defaults alone.
    """
    global defaults
    if wanted is not None:
        defaults = wanted
    if ZEO.ClientStorage.ClientStorage is ClientStorage:
        return
    ZEO.ClientStorage.ClientStorage = ClientStorage
    zodburi.resolvers.ClientStorage = ClientStorage
    # Locks that the I/O thread shares with greenlets, and that nobody holds across a wait.
    ZEO.cache.RLock = native.RLock
    ZODB.mvccadapter.Lock = native.Lock
    # The I/O thread's short sleep; the patched one would make a hub in it.
    ZEO.asyncio.futures.sleep = native.sleep
    for name in LOGGERS:
        logging.getLogger(name).addFilter(relay)


def _abandon_storages() -> None:
    """Runs in a forked child: a load finds no cache, and so meets the thread's refusal."""
    for storage in list(_storages):
        if isinstance(storage._cache, ClientCache):
            storage._cache.abandon()


os.register_at_fork(after_in_child=_abandon_storages)
