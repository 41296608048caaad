"""The I/O thread of one ZEO client storage, and the way into it.

Methods without a mark are called by greenlets and native threads; those marked
"I/O thread" run in its loop. What goes in passes one queue, so a message never
overtakes one that was put in before it: `vote` comes after the stores that it votes
on. Loads alone may overtake, as they depend on nothing that was sent before them.

No locks here: the queue's operations are atomic, and the order of an append
and of the flag's reading lets no item stay behind (see `_submit` and `_fail_queued`).
"""

import os
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from ZEO.asyncio import client
from ZEO.asyncio.futures import AsyncTask, ConcurrentFuture
from ZEO.Exceptions import ClientDisconnected

from nti.appserver.errors import ConfigurationError
from nti.appserver.hub.threads import LogRelay, NativeThread, bell_here
from nti.appserver.hub.waking import Answer
from nti.appserver.storage.zeo.io import ClientIO

#: Put on the loggers that the I/O thread uses, by `install`.
relay = LogRelay()


EXTRAS = ("patience", "in_order")


class _Started:
    """Stands in for the event that ZEO sets when its loop runs, or could not."""

    def __init__(self) -> None:
        self._answer = Answer()
        self._is_set = False

    def set(self) -> None:
        if not self._is_set:
            self._is_set = True
            self._answer.give(None)

    def wait(self) -> None:
        self._answer.wait()


class ClientThread(client.ClientThread):  # type: ignore[misc]
    """ZEO's client in a native thread; a greenlet that calls it switches until it has its answer.

    Arguments are those of `ZEO.asyncio.client.ClientThread`; the attributes `EXTRAS` of
    `client`, where the storage has them, are arguments of `ClientIO`.
    """

    def __init__(
        self,
        addrs: Any,
        client: Any,
        cache: Any,
        storage_key: str = "1",
        read_only: Any = False,
        timeout: float = 30,
        disconnect_poll: float = 1,
        ssl: Any = None,
        ssl_server_hostname: str | None = None,
    ) -> None:
        self.set_options(
            addrs,
            client,
            cache,
            storage_key,
            read_only,
            timeout,
            disconnect_poll,
            ssl=ssl,
            ssl_server_hostname=ssl_server_hostname,
        )
        # A storage of another class has none of these.
        self._extras = {name: vars(client)[name] for name in EXTRAS if name in vars(client)}
        self._pid = os.getpid()
        self._queue: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._called = False
        self._bell = bell_here()
        self.started = _Started()
        self.thread = NativeThread(self._run, f"{client.__name__} zeo client networking thread")
        self.thread.start()
        self.started.wait()
        if self.exception:
            raise self.exception

    def _run(self) -> None:
        """I/O thread: all of its life."""
        with relay.on_behalf_of(self._bell):
            try:
                self.run_io_thread()
            finally:
                self._fail_queued()

    def setup_delegation(self, loop: Any) -> None:
        """I/O thread: before the loop runs."""
        self.loop = loop
        arguments, options = self._ClientRunner__args, self._ClientRunner__kwargs
        self.client = ClientIO(loop, *arguments, **self._extras, **options)
        self.call_sync_co = self.client.call_sync_co
        self.load_before_co = self.client.load_before_co
        self.io_call = self._io_call

    # -- into the thread

    def _submit(self, function: Callable[..., object], *arguments: Any) -> None:
        """Have `function(*arguments)` run in the I/O thread. Does not switch.

        :raises ClientDisconnected: the storage is closed.
        :raises ConfigurationError: this process was forked after the storage was made.
        """
        if os.getpid() != self._pid:
            raise ConfigurationError(
                f"a ZEO storage was opened in process {self._pid} and used in {os.getpid()}, "
                "forked after that",
                "a storage opened by the process that uses it",
                "open it after the fork, not while the application is imported in the arbiter",
            )
        self._queue.append((function, arguments))
        if not self._called:
            self._called = True
            try:
                self.loop.call_soon_threadsafe(self._take)
            except RuntimeError:  # the loop is closed
                self._fail_queued()
                raise ClientDisconnected("closed") from None

    def _take(self) -> None:
        """I/O thread: do what has been submitted."""
        self._called = False
        queue = self._queue
        while queue:
            function, arguments = queue.popleft()
            try:
                function(*arguments)
            except Exception as problem:
                self.loop.call_exception_handler(
                    {"message": "a ZEO message could not be sent", "exception": problem}
                )

    def _fail_queued(self) -> None:
        """The loop is closed: tell those who still wait. The flag first, see `_submit`."""
        self._called = False
        while self._queue:
            _, arguments = self._queue.popleft()
            for each in arguments:
                if isinstance(each, Answer):
                    each.fail(ClientDisconnected("closed"))
                elif isinstance(each, Coroutine):
                    each.close()

    # -- calls

    def load_before(self, oid: bytes, tid: bytes) -> Any:
        """The state of `oid` that was current before `tid`. Switches."""
        if self.is_closed():
            raise ClientDisconnected("closed")
        answer = Answer()
        if not self._load_at_once(oid, tid, answer):
            self._submit(self._load, oid, tid, answer)
        return answer.wait()

    def _load_at_once(self, oid: bytes, tid: bytes, answer: Answer) -> bool:
        """Send the request from here, if nothing is in its way. Does not switch.

        The I/O thread need not get the interpreter's lock for it, which under load takes a
        millisecond or two.
        """
        client = self.client
        # The protocol first: if the client is operational after that, it is so with
        # this protocol, or this one is closed.
        protocol = client.protocol
        if protocol is None or not client.operational or os.getpid() != self._pid:
            return False
        if not protocol.load_at_once(oid, tid, _hand_to(answer)):
            return False
        if protocol.needs_attention:
            self._submit(protocol.attend)
        return True

    def _load(self, oid: bytes, tid: bytes, answer: Answer) -> None:
        """I/O thread: from the cache, which may have it since the caller looked, or the server."""
        client = self.client
        try:
            if client.operational:
                found = client.cache.loadBefore(oid, tid)
                if found is not None:
                    answer.give(found)
                    return
                future = client.protocol.load_before(oid, tid)
            else:
                coroutine = client.load_before_co(oid, tid, self.timeout)
                future = AsyncTask(coroutine, loop=self.loop)
        except Exception as problem:
            answer.fail(problem)
        else:
            future.add_done_callback(_hand_to(answer))

    def _io_call(
        self, coroutine: Coroutine[Any, Any, Any], wait: bool = True, to_the_end: bool = False
    ) -> Any:
        """Run `coroutine` in the I/O thread; its outcome, or without `wait` a future of it.

        :param to_the_end: no timeout and no kill keeps the outcome from the caller.
        """
        answer = Answer() if wait else _Future(self.loop)
        try:
            self._submit(self._start, coroutine, answer)
        except BaseException:
            coroutine.close()
            raise
        if isinstance(answer, _Future):
            return answer
        return answer.wait_to_the_end() if to_the_end else answer.wait()

    def _start(self, coroutine: Coroutine[Any, Any, Any], answer: "Answer | _Future") -> None:
        """I/O thread."""
        AsyncTask(coroutine, loop=self.loop).add_done_callback(_hand_to(answer))

    @staticmethod
    def _io_call_after_closure(coroutine: Coroutine[Any, Any, Any], **options: Any) -> None:
        """In place of `io_call` once the storage is closed."""
        coroutine.close()
        raise ClientDisconnected("closed")

    def catch_up(self) -> None:
        """Wait until all is known that was committed before the call. Switches.

        :raises ClientDisconnected: the server is away.
        """
        self.io_call(self.client.catch_up_co(self.timeout))

    def async_(self, method: str, *arguments: Any) -> None:
        """Send a message that has no answer. Does not switch."""
        if not self.client.operational:
            raise ClientDisconnected
        self._submit(self.client.call_async, method, arguments)

    def async_iter(self, messages: Any) -> None:
        """Send the messages of an iterator, which the I/O thread asks for them. Does not switch."""
        if not self.client.operational:
            raise ClientDisconnected
        self._submit(self.client.call_async_iter, messages)

    def tpc_finish(
        self, tid: int, updates: Any, f: Callable[[bytes], object], **options: Any
    ) -> Any:
        """Make a voted transaction final. Switches; see `Answer.wait_to_the_end`."""
        if options.get("wait", True):
            options["to_the_end"] = True
        return self.io_call(self.client.tpc_finish_co(tid, updates, f), **options)


class _Future(ConcurrentFuture):  # type: ignore[misc]
    """The outcome of a call that nobody has to wait for."""

    __slots__ = ()

    def give(self, value: Any) -> None:
        self.set_result(value)

    def fail(self, error: BaseException) -> None:
        self.set_exception(error)


def _hand_to(answer: "Answer | _Future") -> Callable[[Any], None]:
    def hand_over(future: Any) -> None:
        """I/O thread: `future` is done."""
        error = future.exception()
        if error is None:
            answer.give(future.result())
        else:
            answer.fail(error)

    return hand_over
