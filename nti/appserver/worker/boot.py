"""What a worker reports of its start: where it serves, or why it cannot.

Runs in the main greenlet of a worker that does not serve yet. `fail` ends the
process, and may wait before it does.
"""

import sys
import time
import warnings
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from nti.appserver.errors import ConfigurationError
from nti.appserver.worker.roster import Entry, Roster, State

#: gunicorn ends when a worker exits with this (`Arbiter.WORKER_BOOT_ERROR`).
ENDS_GUNICORN = 3
#: gunicorn starts another worker when one exits with this.
TRY_AGAIN = 1

#: The longest time between two attempts to start a worker, in seconds.
LONGEST_PAUSE = 30.0


def quieten() -> None:
    """Keep a warning from the log that only Pyramid's authors can act on."""
    warnings.filterwarnings("ignore", "pkg_resources is deprecated", UserWarning)


def addresses(sockets: Iterable[Any], *, tls: bool) -> str:
    """Where these listen, as one would type it into a browser or a proxy's configuration."""
    scheme = "https" if tls else "http"
    found = []
    for listener in sockets:
        name = listener.getsockname()
        if isinstance(name, tuple):
            host = f"[{name[0]}]" if ":" in name[0] else name[0]
            found.append(f"{scheme}://{host}:{name[1]}/")
        else:
            found.append(f"unix:{name if isinstance(name, str) else name.decode()}")
    return " ".join(found)


_site_address = ""


def serves_at(sockets: Iterable[Any], *, tls: bool) -> str:
    """As `addresses`; the first that a browser on this machine can open is kept for links."""
    global _site_address
    found = addresses(sockets, tls=tls)
    for address in found.split():
        if not address.startswith("unix:"):
            here = address.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")
            _site_address = here.rstrip("/")
            break
    return found


def site_address() -> str:
    """What `serves_at` has kept, without a slash at its end; '' before and without one."""
    return _site_address


def report(problem: Exception, log: Any) -> None:
    """Print why the application cannot be served: whole, unless the message says it all."""
    if isinstance(problem, ConfigurationError):
        log.error("Cannot serve: %s", problem)
    else:
        log.error("Cannot serve: the application failed while it loaded", exc_info=problem)


def fail(
    entry: Entry, roster: Roster, log: Any, notify: Callable[[], None], alive: Callable[[], bool]
) -> NoReturn:
    """End this worker, which could not start; end gunicorn when none of its workers ever could.

    Once a worker has served, a failure is not the end: an old one serves on, or
    gunicorn starts another, after a pause that doubles with each failure.

    :param notify: tells the arbiter that this process lives.
    :param alive: whether the worker has not been told to end.
    """
    failures = roster.note_failure()
    entry.state = State.FAILED
    if not roster.has_served:
        # A second one would meet gunicorn while it ends, and have it die of an exception.
        if roster.may_end_gunicorn():
            log.error("gunicorn ends, because the application cannot be served.")
            sys.exit(ENDS_GUNICORN)
        _pause(LONGEST_PAUSE, notify, alive)
        sys.exit(TRY_AGAIN)
    if roster.serving() < roster.wanted:
        entry.state = State.OUT
        pause = min(LONGEST_PAUSE, 2.0 ** (failures - 1))
        log.error("The next attempt to start a worker is in %.0f s.", pause)
        _pause(pause, notify, alive)
    sys.exit(TRY_AGAIN)


def _pause(seconds: float, notify: Callable[[], None], alive: Callable[[], bool]) -> None:
    ends = time.monotonic() + seconds
    while alive() and time.monotonic() < ends:
        notify()
        time.sleep(0.1)
