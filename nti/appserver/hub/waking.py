"""Waking a hub from a native thread, and waiting there for what such a thread gives.

One `Bell` for each hub: an async watcher and a queue. Any thread may ring; the
hub's thread answers. A ring while the bell still rings costs one append, so a
thread that completes a hundred calls at once wakes the hub once.

No locks: `deque.append`, `deque.popleft` and reading or writing one attribute
are atomic under the interpreter's lock. The order matters and is said where it does.
"""

import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from gevent import Timeout, get_hub
from gevent._hub_local import get_hub_if_exists
from greenlet import getcurrent

from nti.appserver.hub import native

logger = logging.getLogger(__name__)

#: One turn of the hub wakes greenlets for about so long, then lets timers and sockets have theirs.
TURN_SECONDS = 0.001

#: So many are woken before the clock is looked at.
TURN_STEP = 8


def hub_here() -> Any:
    """The hub of the calling thread; None for a native thread, which shall not get one.

    The main thread of a patched process gets one before anything has asked for
    it: greenlets may be spawned while something here is already waited for.
    """
    hub = get_hub_if_exists()
    if hub is None and native.is_patched() and native.is_main_thread():
        hub = get_hub()
    return hub


class Item(Protocol):
    """What a bell carries to its hub."""

    def arrived(self) -> None:
        """Runs in the hub, soon after the ring; may switch into a greenlet, must not wait."""


class Bell:
    """Brings items to one hub, from any thread, in the order of the rings.

    Made in the hub's own thread; `of` gives the one of the calling thread.
    """

    def __init__(self, hub: Any) -> None:
        self.hub = hub
        self._queue: deque[Item] = deque()
        self._rung = False
        self._watcher = hub.loop.async_()
        self._watcher.start(self._answer)
        self._destroy_hub = hub.destroy
        hub.destroy = self._destroy

    @classmethod
    def of(cls, hub: Any) -> "Bell":
        """The bell of `hub`, made when it has none; called in the hub's thread."""
        try:
            return hub._nti_appserver_bell  # type: ignore[no-any-return]
        except AttributeError:
            bell = hub._nti_appserver_bell = cls(hub)
            return bell

    def _destroy(self, destroy_loop: bool | None = None) -> None:
        """In place of `hub.destroy`, when its thread ends: a watcher must not outlive its loop."""
        self._rung = True  # for ever: nobody is left to be woken
        self._watcher.stop()
        self._watcher.close()
        del self.hub.destroy, self.hub._nti_appserver_bell
        self._destroy_hub(destroy_loop)

    def ring(self, item: Item) -> None:
        """Have `item.arrived()` run in the hub, while there is one. Any thread; does not switch."""
        self._queue.append(item)
        # After the append: an answer that clears the flag first also sees the item.
        if not self._rung:
            self._rung = True
            self._watcher.send()

    def _answer(self) -> None:
        """Runs in the hub: the items that have come, for at most about one turn."""
        self._rung = False
        try:
            self._bring(time.perf_counter() + TURN_SECONDS)
        finally:
            if self._queue:  # the turn is over, or somebody has ended the hub's thread
                self._rung = True
                self._watcher.send()

    def _bring(self, until: float) -> None:
        queue = self._queue
        count = 0
        while queue:
            try:
                queue.popleft().arrived()
            except Exception:
                logger.exception("waking a greenlet")
            count += 1
            if not count % TURN_STEP and time.perf_counter() > until:
                return


class Call:
    """A function that a native thread has a hub run."""

    __slots__ = ("_arguments", "_function")

    def __init__(self, function: Callable[..., object], *arguments: Any) -> None:
        self._function = function
        self._arguments = arguments

    def arrived(self) -> None:
        self._function(*self._arguments)


class Answer:
    """One outcome, given by a native thread, awaited by the greenlet or thread that made this.

    Under a hub the wait switches; elsewhere it stops the thread. Give it once.
    """

    __slots__ = ("_bell", "_error", "_gate", "_value", "_waiting", "ready")

    def __init__(self) -> None:
        hub = hub_here()
        self.ready = False
        self._value: Any = None
        self._error: BaseException | None = None
        self._waiting: Any = None
        if hub is None:
            self._bell: Bell | None = None
            self._gate = native.Gate()
            self._gate.acquire()
        else:
            self._bell = Bell.of(hub)

    def give(self, value: Any) -> None:
        """The outcome is `value`. Any thread; does not switch."""
        self._value = value
        self._hand_over()

    def fail(self, error: BaseException) -> None:
        """The outcome is that `error` is raised in the waiter. Any thread; does not switch."""
        self._error = error
        self._hand_over()

    def _hand_over(self) -> None:
        bell = self._bell
        if bell is None:
            self.ready = True
            self._gate.release()
        else:
            bell.ring(self)

    def arrived(self) -> None:
        """Runs in the hub. The waiter may be gone: killed, or out of time."""
        self.ready = True
        if self._waiting is not None:
            self._waiting.switch()

    def wait(self) -> Any:
        """The outcome. Switches, unless the calling thread has no hub.

        Whatever is thrown into the greenlet meanwhile, a timeout or its end,
        comes through, and the outcome is then nobody's.

        :raises RuntimeError: called in the hub itself, which can wait for nobody.
        """
        if not self.ready:
            self._check_waiter()
            self._park()
        error = self._error
        if error is None:
            return self._value
        try:
            raise error
        finally:
            error = self._error = None  # its traceback refers to this frame

    def wait_to_the_end(self) -> Any:
        """The outcome, which no timeout and no kill keeps from its waiter.

        What was thrown into the greenlet meanwhile is thrown again once it has
        the outcome: at its next switch, or not at all if it was a timeout that
        has been cancelled since.
        """
        self._check_waiter()
        thrown: BaseException | None = None
        while not self.ready:
            try:
                self._park()
            except BaseException as problem:
                thrown = thrown or problem
        if thrown is not None:
            if self._bell is None:
                raise thrown  # an interrupt from the keyboard
            self._bell.hub.loop.run_callback(_throw_later, getcurrent(), thrown)
        return self.wait()

    def _check_waiter(self) -> None:
        if self._bell is not None and getcurrent() is self._bell.hub:
            raise RuntimeError("the hub itself was to wait for a native thread; spawn a greenlet")

    def _park(self) -> None:
        bell = self._bell
        if bell is None:
            self._gate.acquire()
            return
        self._waiting = getcurrent()
        try:
            while not self.ready:
                bell.hub.switch()
        finally:
            self._waiting = None


def _throw_later(greenlet: Any, thrown: BaseException) -> None:
    """Runs in the hub, when the greenlet has switched out again or is dead."""
    if greenlet.dead:
        return
    # A timeout that is over has put an object in its timer's place that is nobody's.
    if isinstance(thrown, Timeout) and not hasattr(thrown.timer, "loop"):
        return
    greenlet.throw(thrown)
