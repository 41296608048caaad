"""The servers that are measured: how each is started, and which version it is.

One process serves, with the options a server has by default but for what makes
it take as many connections as the others. Runs in the process that measures.
"""

import os
import ssl
import sys
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from nti.appserver.testing.process import (
    GUNICORN,
    WORKER_CLASS,
    ServerProcess,
    free_port,
    wait_until,
)

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent

OURS = "nti.appserver"
STOCK = "gunicorn gevent"
#: With as many blocking threads as it takes by itself it costs more: they contend for the GIL.
GRANIAN = "granian, 1 blocking thread"

#: No server: what sending 1 MB costs by itself.
BARE = "a bare loop"

Command = Callable[[str, str], list[str]]


@dataclass(frozen=True)
class Kind:
    """A kind of server.

    :ivar package: the distribution that it comes from.
    :ivar command: makes its command line of an application's name and an address.
    """

    package: str
    command: Command


def _gunicorn(worker: str, *options: str) -> Command:
    common = ["--no-control-socket", "--worker-connections=20000"]
    return lambda app, address: [GUNICORN, "-k", worker, "-b", address, *common, *options, app]


def _waitress(app: str, address: str) -> list[str]:
    return [str(BIN / "waitress-serve"), f"--listen={address}", "--connection-limit=1000", app]


def _cheroot(app: str, address: str) -> list[str]:
    return [str(BIN / "cheroot"), "--bind", address, app]


def _granian(*options: str) -> Command:
    def command(app: str, address: str) -> list[str]:
        host, port = address.split(":")
        where = ["--interface", "wsgi", "--host", host, "--port", port, "--no-ws"]
        return [str(BIN / "granian"), *where, "--backlog", "4096", *options, app]

    return command


def _bjoern(app: str, address: str) -> list[str]:
    module, name = app.split(":")
    host, port = address.split(":")
    program = f"import bjoern, {module}; bjoern.run({module}.{name}, {host!r}, {port})"
    return [sys.executable, "-c", program]


def _bare(app: str, address: str) -> list[str]:
    return [sys.executable, "-m", "benchmarks.http.bare", address]


KINDS = {
    OURS: Kind("nti.appserver", _gunicorn(WORKER_CLASS)),
    STOCK: Kind("gunicorn", _gunicorn("gevent")),
    GRANIAN: Kind("granian", _granian("--blocking-threads", "1")),
    "granian": Kind("granian", _granian()),
    "gunicorn gthread": Kind("gunicorn", _gunicorn("gthread", "--threads=4")),
    "gunicorn gevent_pywsgi": Kind(
        "gunicorn", _gunicorn("gunicorn.workers.ggevent.GeventPyWSGIWorker")
    ),
    "waitress": Kind("waitress", _waitress),
    "cheroot": Kind("cheroot", _cheroot),
    "bjoern": Kind("bjoern", _bjoern),
    BARE: Kind("nti.appserver", _bare),
}


def installed(kind: str) -> bool:
    """Whether a kind of server can be measured here."""
    try:
        version(KINDS[kind].package)
    except PackageNotFoundError:
        return False
    return True


def versions() -> dict[str, str]:
    """Versions of what was measured, and of what it runs on."""
    packages = {each.package for name, each in KINDS.items() if installed(name)}
    return {name: version(name) for name in sorted(packages | {"gevent", "pyramid"})}


class Server(ServerProcess):
    """One server of a kind; a context manager.

    :param app: what to serve, as gunicorn takes it.
    :param options: further options, of gunicorn.
    :param bind: an address; else a free port on loopback.
    :param tls: whether the options make it serve TLS.
    """

    def __init__(
        self, kind: str, app: str, *options: str, bind: str | None = None, tls: bool = False
    ) -> None:
        self._tls = tls
        self.kind = kind
        self.bind = bind or f"127.0.0.1:{free_port()}"
        command = KINDS[kind].command(app, self.bind)
        paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        super().__init__(
            [*command[:-1], *options, command[-1]],
            environ={"PYTHONPATH": paths, "PYTHONWARNINGS": "ignore"},
        )

    @property
    def url(self) -> str:
        """Where it serves, without a slash at the end; TCP only."""
        return f"http{'s' * self._tls}://{self.bind}"

    def __enter__(self) -> "Server":
        self.start()
        if not self.bind.startswith("unix:"):
            wait_until(self._answers, f"{self.kind} answers")
        else:
            wait_until(Path(self.bind.removeprefix("unix:")).exists, f"{self.kind} listens")
        return self

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.output()
        return answers(self.url)


def answers(url: str) -> bool:
    """Whether somebody answers there with 200."""
    # Over TLS the certificate is one of our own.
    context = ssl._create_unverified_context() if url.startswith("https:") else None
    try:
        with urllib.request.urlopen(url, timeout=5, context=context) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
