"""Native threads in a process whose `threading` may be patched."""

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gevent._hub_local import get_hub_if_exists

from nti.appserver.hub import native
from nti.appserver.hub.waking import Bell, Call, hub_here

logger = logging.getLogger(__name__)

JOIN_POLL_SECONDS = 0.002


class NativeThread:
    """A real thread that runs `function` once. It does not keep the process alive.

    `threading` does not know it: started from there it would be a greenlet.

    :param name: for people; threads of the system are not renamed.
    """

    daemon = True

    def __init__(self, function: Callable[[], object], name: str) -> None:
        self.name = name
        self._function = function
        self._ended = False
        self.ident: int | None = None

    def start(self) -> None:
        """Any thread; does not switch."""
        self.ident = native.start_new_thread(self._run, ())

    def _run(self) -> None:
        try:
            self._function()
        except Exception:
            logger.exception("%s ended", self.name)
        finally:
            self._leave_no_hub()
            self._ended = True

    @staticmethod
    def _leave_no_hub() -> None:
        """What is patched, `time.sleep` say, gives a thread a hub, whose descriptors would stay."""
        hub = get_hub_if_exists()
        if hub is not None:
            hub.destroy(destroy_loop=True)

    def is_alive(self) -> bool:
        return self.ident is not None and not self._ended

    def join(self, seconds: float = math.inf) -> None:
        """Return at the end, or after `seconds`. Any thread; switches in a patched process."""
        deadline = time.monotonic() + seconds
        while self.is_alive() and time.monotonic() < deadline:
            time.sleep(JOIN_POLL_SECONDS)


class LogRelay(logging.Filter):
    """Has the hub write what native threads log through the loggers that it is put on.

    Handlers have locks that greenlets hold, so a native thread must not wait for them.
    """

    def __init__(self) -> None:
        super().__init__()
        self._threads: dict[int, Bell] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        bell = self._threads.get(native.get_ident())
        if bell is None:
            return True
        bell.ring(Call(logging.getLogger(record.name).handle, record))
        return False

    @contextmanager
    def on_behalf_of(self, bell: Bell | None) -> Iterator[None]:
        """Meanwhile the calling thread's records go to the hub of `bell`; None: nowhere else."""
        ident = native.get_ident()
        if bell is not None:
            self._threads[ident] = bell
        try:
            yield
        finally:
            self._threads.pop(ident, None)


def bell_here() -> Bell | None:
    """The bell of the calling thread's hub; None where there is no hub."""
    hub = hub_here()
    return None if hub is None else Bell.of(hub)
