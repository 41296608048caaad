"""The door that gunicorn knocks on: the worker class, and `app`.

Thin: what it does for a worker's start and end is in `nti.appserver.worker`,
what it serves in `nti.appserver.application`, how in `nti.appserver.http`.

gunicorn's arbiter imports this module before anything is patched, so at its
head it must import nothing that captures a lock, a socket or a thread-local:
no ZODB, ZEO, transaction, concurrent.futures, requests, asyncio or Pyramid.
A docstring says where its method runs: "Arbiter" or "Worker".
"""

import os
import signal
import sys
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

import gevent
from gunicorn.errors import AppImportError
from gunicorn.workers.ggevent import GeventWorker

from nti.appserver.application.configured import end, settings_in_use
from nti.appserver.errors import ConfigurationError
from nti.appserver.ops.hooks import WorkerHooks, prepare_arbiter
from nti.appserver.settings import Settings, load_settings
from nti.appserver.worker import boot
from nti.appserver.worker.deferred import (
    COMMAND,
    DeferredApplication,
    WSGIApplication,
    declare_arbiter,
    in_arbiter,
    in_worker,
    keep_promises,
)
from nti.appserver.worker.imports import unsafe_modules
from nti.appserver.worker.leaving import RESTART, Leaving
from nti.appserver.worker.neighbours import Neighbours
from nti.appserver.worker.roster import State, enter, roster

if TYPE_CHECKING:
    from nti.appserver.http.server import HTTPServer

    #: The configured application; gunicorn looks it up by this name.
    app: WSGIApplication

#: Answered even when every slot is taken.
HEALTH_PATHS = frozenset(("/_ops/ping", "/_ops/ready"))

#: With these gunicorn looks `app` up before it takes up any worker class, and ends.
_ONLY_LOOKED_AT = frozenset(("--check-config", "--print-config"))

_apps: list[DeferredApplication] = []


class WrongWorker(ConfigurationError, AppImportError):  # type: ignore[misc]
    """`app` was looked up where our worker class does not run; gunicorn prints it and ends."""


class BadSetting(ConfigurationError, RuntimeError):
    """A setting of the environment is wrong; gunicorn prints it and ends."""


class GeventApplicationWorker(GeventWorker):  # type: ignore[misc]
    """gunicorn's gevent worker, which serves `app` and any other WSGI application."""

    wsgi: WSGIApplication
    settings: Settings

    #: Why the worker stops once `alive` is false: "restart", others go on serving, or "shutdown".
    drain_reason = RESTART

    _server: "HTTPServer | None" = None

    @classmethod
    def setup(cls) -> None:
        """Arbiter: gunicorn takes up this worker class, before it preloads an application.

        :raises BadSetting: at the start alone. After HUP the new workers fail
            and say why, and the old ones serve on.
        """
        starting = not in_arbiter()
        declare_arbiter()
        try:
            prepare_arbiter()
        except ConfigurationError as problem:
            if starting:
                raise BadSetting(str(problem)) from None

    def __init__(self, age: int, *args: Any, **kwargs: Any) -> None:
        """Arbiter: this object is forked next."""
        super().__init__(age, *args, **kwargs)
        self._hooks = WorkerHooks()
        roster().wanted = self.cfg.workers
        self._leaving = Leaving(self.entry, roster(), self.log, self.leave)

    @property
    def age(self) -> int:
        """Arbiter: gunicorn's running number; after HUP it waits for workers of lower numbers.

        One that stays, as its replacements failed, takes on theirs: the arbiter
        would wait until graceful_timeout for its end, and hear no signal.
        """
        return self.entry.age

    @age.setter
    def age(self, age: int) -> None:
        self.entry = roster().add(age)

    def init_process(self) -> None:
        """Worker: start and serve; an error until it serves is told, and not the site's end.

        gunicorn would end for an error of a single start, others serving or not.
        """
        try:
            super().init_process()
        except Exception as problem:
            if self.booted:
                raise
            self._fail(problem)

    def patch(self) -> None:
        """Worker: the first thing that is done in it."""
        # Until now a signal would have been the arbiter's, in whose likeness this process was made.
        signal.signal(signal.SIGTERM, self.handle_exit)
        enter(self.entry, self.cfg.graceful_timeout)
        unsafe = unsafe_modules()
        if unsafe:
            named = ", ".join(f"{name} ({why})" for name, why in sorted(unsafe.items()))
            self._fail(
                ConfigurationError(
                    f"imported before the worker was patched: {named}",
                    mend="start gunicorn without --preload, and import none of these in its "
                    "configuration file",
                )
            )
        super().patch()
        self._hooks.patched()

    def load_wsgi(self) -> None:
        """Worker: make the application, before a connection is accepted."""
        boot.quieten()
        self._prepare_storages()
        super().load_wsgi()
        keep_promises()
        self.settings = settings_in_use()
        if isinstance(self.wsgi, DeferredApplication):
            self.wsgi = self.wsgi.load()

    def _prepare_storages(self) -> None:
        """Worker: ZEO clients that an application opens by itself shall not block the hub."""
        from nti.appserver.storage import prepare_clients

        prepare_clients(load_settings(environ=os.environ))

    def _fail(self, problem: Exception) -> NoReturn:
        """Worker: it cannot start; does not return."""
        if not self.alive:
            # SIGTERM's SystemExit may have ended a thread that the start then waited for in vain.
            self.log.info("Told to end while it started, which ended so: %r", problem)
            sys.exit(0)
        boot.report(problem, self.log)
        if roster().has_served:
            self._hooks.ended()  # no crash: others serve, or another attempt follows
        boot.fail(self.entry, roster(), self.log, self.notify, lambda: self.alive)

    def run(self) -> None:
        """Worker: serve until told to stop, and finish what is in hand."""
        from nti.appserver.http.hooks import Hooks
        from nti.appserver.http.server import HTTPServer

        hooks = Hooks(
            is_health=HEALTH_PATHS.__contains__,
            drain_reason=lambda: self.drain_reason,
            may_leave=self._leave_in_turn,
            neighbours=Neighbours(self.entry, roster()),
            first=self.entry.age == 1,
        )
        self._server = server = HTTPServer(self, settings=self.settings, hooks=hooks)
        self._hooks.application_made(self.settings, self._recycle)
        addresses = boot.serves_at(self.sockets, tls=self.cfg.is_ssl)
        if not roster().has_served:
            self.log.info("Serving %s", addresses)
        self.entry.state = State.SERVING
        roster().note_serving()
        server.run()
        end()
        self._hooks.ended()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Worker: SIGTERM; a worker that is being replaced first sees its replacements serve."""
        if self.booted:
            self._leaving.told()
        else:
            self._leaving.told_before_serving()
            self.alive = False
            raise SystemExit(0)

    def leave(self, reason: str) -> None:
        """Worker: take no new connections, finish the rest, end. May be called in any greenlet.

        :param reason: "restart" or "shutdown".
        """
        self.drain_reason = reason
        self.alive = False
        # It writes a file, which a signal handler on the hub may not.
        gevent.spawn(self._leaving_begins, reason)

    def _leaving_begins(self, reason: str) -> None:
        """Worker: have the server stop to accept now, and say so once it has."""
        if self._server is not None:
            self._server.wake()
            gevent.sleep(0)
        self._hooks.draining(reason)

    def _leave_in_turn(self) -> bool:
        """Worker: it has had max_requests; whether it leaves now, and not after another."""
        if not self._hooks.may_leave():
            return False
        self.leave(RESTART)
        return True

    def _recycle(self, why: str) -> None:
        """Worker: it has grown too large or too old, and gunicorn starts another."""
        self.leave(RESTART)


def _configured() -> WSGIApplication:
    """Worker: the application that NTI_APPSERVER_CONFIG and the other settings name."""
    from nti.appserver.application import make_app

    return make_app(os.environ.get("NTI_APPSERVER_CONFIG"))


def __getattr__(name: str) -> Any:
    """`app`, looked up by gunicorn at boot: the moment to refuse another worker class."""
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if in_worker():
        return _configured()
    if not in_arbiter() and not _ONLY_LOOKED_AT & set(sys.argv):
        raise WrongWorker(
            "nti.appserver.gunicorn:app is served by its own worker class only",
            mend=f"start it with: {COMMAND}",
        )
    if not _apps:
        _apps.append(DeferredApplication(_configured))
    return _apps[0]
