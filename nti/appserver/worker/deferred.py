"""Applications that are named in one process and made in another.

gunicorn's arbiter imports `app` (with `preload_app`) before it forks and long
before a worker is patched. What was imported there stays imported in every
worker: `transaction` would give all greenlets one manager. So an application
named in the arbiter stays a promise, and the worker keeps it in `load_wsgi`,
before it accepts.

Everything here runs in the main thread while a process starts; only
`DeferredApplication.__call__` runs in a request's greenlet, and does not switch.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from nti.appserver.errors import ConfigurationError

WSGIApplication = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

COMMAND = "gunicorn -k nti.appserver.gunicorn.GeventApplicationWorker nti.appserver.gunicorn:app"

_arbiter_pid: int | None = None
_promised: list["DeferredApplication"] = []


def declare_arbiter() -> None:
    """This process is an arbiter that forks our workers; called when it takes up our class."""
    global _arbiter_pid
    _arbiter_pid = os.getpid()


def in_arbiter() -> bool:
    """Whether this process only forks workers, so that nothing may be made in it."""
    return _arbiter_pid == os.getpid()


def in_worker() -> bool:
    """Whether this process was forked by an arbiter that took up our worker class."""
    return _arbiter_pid is not None and not in_arbiter()


class DeferredApplication:
    """A WSGI application that `keep_promises` makes.

    :param make: returns the application; called at most once in a process, in
        the worker, after patching.
    """

    def __init__(self, make: Callable[[], WSGIApplication]) -> None:
        self._make = make
        self.application: WSGIApplication | None = None
        _promised.append(self)

    def load(self) -> WSGIApplication:
        """Make the application, or return the one made before.

        :raises ConfigurationError: in the arbiter.
        """
        if self.application is None:
            if in_arbiter():
                raise ConfigurationError("gunicorn's arbiter was asked to make the application")
            self.application = self._make()
        return self.application

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        if self.application is None:
            raise ConfigurationError(
                "a request came before the application was made",
                mend=f"serve it with: {COMMAND}",
            )
        return self.application(environ, start_response)


def promised() -> Iterator[DeferredApplication]:
    """The deferred applications named so far, in this process or in the arbiter before the fork."""
    return iter(list(_promised))


def keep_promises() -> None:
    """Make every application that was deferred; what making one raises comes through."""
    for promise in promised():
        promise.load()
