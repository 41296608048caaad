"""ZEO's client as its loop sees it: connecting, giving a mute server up, commits in their order.

Everything here runs in the I/O thread of one storage; `thread.ClientThread` is
the way in. ZEO's own code does the rest: handshake, cache verification, invalidations.
"""

import logging
from collections.abc import Callable
from typing import Any

from ZEO.asyncio import client
from ZEO.asyncio.futures import Future
from ZEO.Exceptions import ClientDisconnected
from ZODB.utils import maxtid

from nti.appserver.storage.errors import CommitInDoubt
from nti.appserver.storage.zeo.cache import ClientCache
from nti.appserver.storage.zeo.protocol import Protocol, retrieve

logger = logging.getLogger(__name__)

#: A commit waits for so long for the invalidations of an earlier one that must be on their way.
LATE_SECONDS = 5.0


class ClientIO(client.ClientIO):  # type: ignore[misc]
    """ZEO's client as the loop sees it.

    :param patience: seconds, > 0, after which a mute server is given up; None: never.
    :param in_order: whether a commit waits for the invalidations of those before it.
    """

    def __init__(
        self,
        *arguments: Any,
        patience: float | None = None,
        in_order: bool = False,
        **options: Any,
    ) -> None:
        #: Transactions whose invalidations are waited for, each with what is done when they come.
        self._awaited: list[tuple[bytes, Any]] = []
        #: Commits that the server has made and that are not known yet, the earliest first.
        self._answered: list[bytes] = []
        #: Invalidations of transactions after the first of those, in their order.
        self._held: list[tuple[bytes, Any]] = []
        super().__init__(*arguments, **options)
        self.patience = patience
        self.in_order = in_order
        if patience is not None:
            self._watch_later()

    def try_connecting(self) -> None:
        if not self.closed:
            self.protocols = [
                Protocol(
                    self.loop,
                    addr,
                    self,
                    self.storage_key,
                    self.read_only,
                    self.connect_poll,
                    ssl=self.ssl,
                    ssl_server_hostname=self.ssl_server_hostname,
                )
                for addr in self.addrs
            ]

    def _watch_later(self) -> None:
        assert self.patience is not None
        self.loop.call_later(min(1.0, self.patience / 4), self._watch)

    def _watch(self) -> None:
        if self.closed:
            return
        self._watch_later()
        assert self.patience is not None
        protocol = self.protocol
        if protocol is None:
            self._connect_anew(self.patience)
        elif protocol.is_mute(self.patience):
            logger.error("%s has not answered for %g s; connecting anew", protocol, self.patience)
            protocol.drop(f"the server has not answered for {self.patience:g} s")
            self.disconnected(protocol)

    def _connect_anew(self, patience: float) -> None:
        """A connection attempt through a cut network would go on for minutes after it is mended."""
        mute = [each for each in self.protocols if not each.closed and each.is_mute(patience)]
        for protocol in mute:
            protocol.drop("no connection in time")
        if mute and all(each.closed for each in self.protocols):
            self.try_connecting()

    async def verify(self, server_tid: bytes | None) -> None:
        """As ZEO, but a cache of the disk that is newer than the server goes, rather than the site.

        Nothing has been loaded yet, so nobody has seen what the server no longer
        has: a database restored or begun anew since. Later ZEO's refusal stands.
        """
        if self.ready is None and self.cache and isinstance(self.cache, ClientCache):
            if server_tid is None:
                server_tid = await self.protocol.server_call("lastTransaction")
            if self.cache.getLastTid() > server_tid:
                logger.warning("the client cache is newer than the server: dropped")
                self.cache.clear()
        await super().verify(server_tid)

    # -- commits, and the order in which they become known

    async def tpc_finish_co(self, tid: int, updates: Any, f: Callable[[bytes], object]) -> bytes:
        """As ZEO, but what others committed before is invalidated before this commit is known.

        A server whose loop is uvloop's may send the invalidations of a commit after its
        answer to a later one. `lastTransaction`, asked while this client holds the
        server's commit lock, says which invalidations there must have been by then.
        """
        protocol = self.protocol
        if not self.operational:
            raise ClientDisconnected("the commit did not reach the server")
        try:
            earlier = protocol.server_call("lastTransaction") if self.in_order else None
            if earlier is not None:
                earlier.add_done_callback(retrieve)
            committed: bytes = await protocol.server_call("tpc_finish", tid)
            if earlier is not None:
                await self._turn_of(committed, earlier)
            self._commit_known(committed, updates, f)
            self._go_on_after(committed)
        except Exception as problem:
            # The cache may lack something now; a new connection verifies it.
            protocol.close()
            self.disconnected(protocol)
            if isinstance(problem, ClientDisconnected):
                raise CommitInDoubt(str(problem)) from problem
            raise
        return committed

    def _commit_known(self, tid: bytes, updates: Any, f: Callable[[bytes], object]) -> None:
        cache = self.cache
        for oid, data, resolved in updates:
            cache.invalidate(oid, tid)
            if data and not resolved:
                cache.store(oid, tid, None, data)
        # ZODB wants `lastTransaction` to change when it has been told, and not before.
        with cache._lock:
            if self.operational:
                cache.setLastTid(tid)
            f(tid)

    async def _turn_of(self, committed: bytes, earlier: Any) -> None:
        """Return when all is known that was committed before `committed`, and nothing after it.

        Transactions must become known in their order: ZODB takes `lastTransaction` for the
        promise that it has heard of all up to it. `earlier` is a future of the one before.
        """
        self._answered.append(committed)
        try:
            await self._invalidated(await earlier)
        finally:
            self._answered.remove(committed)

    def _go_on_after(self, tid: bytes) -> None:
        """Go on with what had to wait for `tid`, since all up to it is known."""
        held, self._held = self._held, []
        self._stop_waiting(tid)
        for each in held:
            self.invalidateTransaction(*each)  # holds it again, if another commit comes before it

    async def catch_up_co(self, timeout: float) -> None:
        """Return when all is known that was committed before the call."""
        await self._invalidated(await self.call_sync_co("lastTransaction", (), timeout))

    async def _invalidated(self, tid: bytes) -> None:
        """Return when the invalidations of transaction `tid` have come, or cannot come."""
        if self.cache.getLastTid() >= tid or not self.operational:
            return
        awaited = tid, Future(self.loop)
        self._awaited.append(awaited)
        timer = self.loop.call_later(LATE_SECONDS, self._stop_waiting, tid)
        try:
            await awaited[1]
        finally:
            timer.cancel()

    def _stop_waiting(self, tid: bytes = maxtid) -> None:
        """Wake those who wait for the invalidations of `tid`, or of a transaction before it."""
        come = [awaited for awaited in self._awaited if awaited[0] <= tid]
        self._awaited = [awaited for awaited in self._awaited if awaited[0] > tid]
        for _, future in come:
            future.set_result(None)

    def invalidateTransaction(self, tid: bytes, oids: Any) -> None:
        if self._answered and tid > self._answered[0]:
            self._held.append((tid, oids))
            return
        if tid > self.cache.getLastTid():
            super().invalidateTransaction(tid, oids)
        else:  # later than a commit that was answered before it: its time is over
            for oid in oids:
                self.cache.invalidate(oid, None)
            self.client.invalidateTransaction(tid, oids)
        if self._awaited:
            self._stop_waiting(tid)

    def disconnected(self, protocol: Any = None) -> None:
        super().disconnected(protocol)
        if not self.operational:
            self._held.clear()  # the next connection begins by asking for them
            self._stop_waiting()
