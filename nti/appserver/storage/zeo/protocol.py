"""A connection to a ZEO server: its messages, a short way for loads, whether the server is mute.

Everything here runs in the I/O thread of one storage, but for what says "any thread".
"""

import logging
from collections.abc import Callable
from typing import Any

from ZEO.asyncio import client
from ZEO.asyncio.futures import Future
from ZEO.Exceptions import ClientDisconnected

from nti.appserver.storage.zeo.outlet import Outlet, outlet_for
from nti.appserver.storage.zeo.wire import MessageStream, framed, load_encoder

logger = logging.getLogger(__name__)


def retrieve(future: Any) -> None:
    """Nobody waits for this outcome; an exception in it is not a defect."""
    future.exception()


class Protocol(client.Protocol):  # type: ignore[misc]
    """A connection to one server, with a short way for loads and their answers."""

    def __init__(self, loop: Any, *arguments: Any, **options: Any) -> None:
        #: When it last was known not to be mute, by the loop's clock.
        self.alive_at = loop.time()
        self._heard = 0
        self._probed_at: float | None = None
        #: For loads that other threads send themselves; None: they cannot.
        self._outlet: Outlet | None = None
        super().__init__(loop, *arguments, **options)

    def connection_made(self, transport: Any) -> None:
        logger.debug("connected %s", self)
        stream = self.sm_protocol = MessageStream(self._first_message)
        self._outlet = outlet_for(transport)
        stream.connection_made(self._outlet or transport)
        self.data_received = stream.data_received
        self.eof_received = stream.eof_received
        self.pause_writing = stream.pause_writing
        self.resume_writing = stream.resume_writing
        self.write_message = stream.write_message
        self.write_message_iter = stream.write_message_iter
        self.heartbeat(write=False)

    def get_peername(self) -> Any:
        """Where the server is. uvloop makes a socket to find a path, which here gets a hub."""
        return self.addr if isinstance(self.addr, str) else super().get_peername()

    def finish_connection(self, protocol_version: bytes) -> None:
        super().finish_connection(protocol_version)
        if self.protocol_version is not None:
            self._load_message = load_encoder(self.encode)

    def load_before(self, oid: bytes, tid: bytes) -> Future:
        """The state of `oid` before `tid`; loads of the same are one request."""
        key = (oid, tid)
        future = self.futures.get(key)
        if future is None:
            if self.closed:
                raise ClientDisconnected("closed")
            mine = Future(self.loop)
            future = self.futures.setdefault(key, mine)
            if future is mine:
                self.write_message(self._load_message(oid, tid))
        return future

    def load_at_once(self, oid: bytes, tid: bytes, done: Callable[[Any], object]) -> bool:
        """Any thread: request the state of `oid` before `tid`; `done` is called with the future.

        Does not switch. False, and nothing has happened, when the I/O thread must do it. When
        `needs_attention` after it, `attend` must run.
        """
        outlet = self._outlet
        if outlet is None or not outlet.claim():
            return False
        try:
            key = (oid, tid)
            future = Future(self.loop)
            future.add_done_callback(done)
            # One step, as the I/O thread may do the same.
            if self.futures.setdefault(key, future) is not future:
                return False
            outlet.send(framed(self._load_message(oid, tid)))
        finally:
            outlet.release()
        return True

    @property
    def needs_attention(self) -> bool:
        """Any thread: whether a request was not sent whole, or came when this was being closed."""
        return self.closed or (self._outlet is not None and not self._outlet.is_settled)

    def attend(self) -> None:
        """Send what is left of a request; when this is closed, fail the requests that came late."""
        if self.closed:
            for future in self.pop_futures():
                if not future.done():
                    future.set_exception(ClientDisconnected("closed"))
        elif self._outlet is not None:
            self._outlet.settle()

    def pop_futures(self) -> list[Any]:
        """Take all futures out. One after the other: another thread may put one in meanwhile."""
        futures = []
        while self.futures:
            futures.append(self.futures.popitem()[1])
        return futures

    def message_received(self, data: bytes) -> None:
        message_id, failed, _, result = self.decode(data)
        if failed or type(message_id) is not tuple:
            super().message_received(data)
            return
        future = self.futures.pop(message_id)
        if result is not None:
            state, start, end = result
            try:
                self.client.cache.store(message_id[0], start, end, state)
            except Exception:
                logger.exception("the client cache refused an object")
        future.set_result(result)

    def is_mute(self, patience: float) -> bool:
        """Whether a call has waited for `patience` seconds and nothing came, not even a pong."""
        now = self.loop.time()
        heard = self.sm_protocol.received_chunks if self.sm_protocol is not None else 0
        if heard != self._heard or (self.ready_for_calls and not self.futures):
            self._heard, self.alive_at, self._probed_at = heard, now, None
        if not self.ready_for_calls:
            return bool(now - self.alive_at > patience)
        if self._probed_at is not None:
            # Counted from the ping, as this process may have been stopped itself until now.
            return bool(now - self._probed_at > patience / 2)
        if now - self.alive_at > patience / 2:
            self._probed_at = now
            self.call_sync("ping", ()).add_done_callback(retrieve)
        return False

    @property
    def ready_for_calls(self) -> bool:
        return self.protocol_version is not None

    def drop(self, reason: str) -> None:
        """Close without waiting for what is still to be sent; all calls fail with `reason`."""
        stream = self.sm_protocol
        if stream is not None and stream.transport is not None:
            stream.transport.abort()
        self.close(reason)
