"""Server processes for tests: on a free port, in a process group, ended whatever happens.

Runs in the process of the tests, which is never monkey-patched.
"""

import atexit
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

WORKER_CLASS = "nti.appserver.gunicorn.GeventApplicationWorker"

#: The script, not `python -m gunicorn`: USR2 runs it again from its path.
GUNICORN = str(Path(sys.executable).with_name("gunicorn"))

#: How long a server may take to do what it should, or to end, on a busy machine.
PATIENCE_SECONDS = 60.0

#: How long it may take to start, the most work of all; one that has ended is not waited for.
STARTING_SECONDS = 120.0


def free_port() -> int:
    """A TCP port on loopback that is given to nobody else for the next minute.

    The kernel gives a port with a connection in TIME_WAIT to nobody who asks for any, while a
    server may bind it that sets SO_REUSEADDR, as servers do. One that was merely free a moment
    ago another test would get before the server that it is for has started.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        with socket.create_connection(address) as client:
            listener.accept()[0].close()  # who closes first has the connection in TIME_WAIT
            client.recv(1)
        return int(address[1])


def wait_until(
    condition: Callable[[], object],
    what: str,
    *,
    seconds: float = PATIENCE_SECONDS,
    every: float = 0.02,
) -> None:
    """Call `condition` until it is true.

    :raises AssertionError: names `what` when the time is over.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"still not so after {seconds} s: {what}")
        time.sleep(every)


def temporary_folder(prefix: str = "appserver-") -> Path:
    """A new folder that is removed when this process ends: what a server logged can be read."""
    folder = tempfile.mkdtemp(prefix=prefix)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


class ServerProcess:
    """A command that serves, its output in a file, ended with its whole group.

    Use it as a context manager. `log` is the path of everything it printed.

    :param command: the program and its arguments.
    :param cwd: its working directory; a new temporary one when not given.
    :param environ: added to this process's environment.
    :param descriptors: open files that the command inherits, under the same numbers.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        cwd: str | os.PathLike[str] | None = None,
        environ: Mapping[str, str] | None = None,
        descriptors: Sequence[int] = (),
    ) -> None:
        self.command = list(command)
        self.descriptors = tuple(descriptors)
        self.cwd = Path(cwd) if cwd is not None else temporary_folder()
        self.environ = {**os.environ, "PYTHONUNBUFFERED": "1", **(environ or {})}
        self.log = self.cwd / "server.log"
        self._output: IO[bytes] | None = None
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> "ServerProcess":
        """Start the command in a process group of its own."""
        self._output = open(self.log, "ab")  # noqa: SIM115  (closed by stop)
        self.process = subprocess.Popen(
            self.command,
            cwd=self.cwd,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=self.descriptors,
        )
        return self

    @property
    def pid(self) -> int:
        assert self.process is not None, "not started"
        return self.process.pid

    def output(self) -> str:
        """Everything printed so far."""
        return self.log.read_text("utf-8", "replace") if self.log.exists() else ""

    def wait_for_output(self, text: str, *, seconds: float = PATIENCE_SECONDS) -> None:
        """Return when `text` has been printed; fail when the process ends before."""

        def seen() -> bool:
            if text in self.output():
                return True
            if self.process is not None and self.process.poll() is not None:
                time.sleep(0.05)
                assert text in self.output(), (
                    f"ended with {self.process.returncode} before {text!r}:\n{self.output()}"
                )
            return False

        try:
            wait_until(seen, f"{text!r} in the output", seconds=seconds)
        except AssertionError as problem:
            raise AssertionError(f"{problem}\n{self.output()}") from None

    def send_signal(self, number: int) -> None:
        """Send a signal to the command itself, not to its group."""
        os.kill(self.pid, number)

    def wait(self, seconds: float = PATIENCE_SECONDS) -> int:
        """Wait for the command's end; its exit status."""
        assert self.process is not None, "not started"
        return self.process.wait(seconds)

    def stop(self, number: int = signal.SIGTERM, seconds: float = PATIENCE_SECONDS) -> int | None:
        """Ask the command to end, then end its whole group; its exit status."""
        if self.process is None:
            return None
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(seconds)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        status = self.process.wait(PATIENCE_SECONDS)
        if self._output is not None:
            self._output.close()
        return status

    def __enter__(self) -> "ServerProcess":
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


class GunicornProcess(ServerProcess):
    """gunicorn with our worker on a free loopback port, or on what `bind` says.

    :param app: what to serve, as gunicorn takes it.
    :param options: further gunicorn options.
    :param worker: the worker class.
    """

    def __init__(
        self,
        app: str = "nti.appserver.gunicorn:app",
        *options: str,
        worker: str = WORKER_CLASS,
        bind: str | None = None,
        cwd: str | os.PathLike[str] | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.port = free_port() if bind is None else 0
        self.bind = bind if bind is not None else f"127.0.0.1:{self.port}"
        command = [GUNICORN, "-k", worker, "-b", self.bind]
        command += ["--no-control-socket", *options, *([app] if app else [])]
        super().__init__(command, cwd=cwd, environ=environ)

    @property
    def url(self) -> str:
        """The server's address without a trailing slash; TCP only."""
        return f"http://127.0.0.1:{self.port}"

    def wait_until_serving(self, seconds: float = STARTING_SECONDS) -> "GunicornProcess":
        """Return when a connection is accepted and a worker has booted."""
        self.wait_for_output("Booting worker", seconds=seconds)

        def answers() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, self.output()
            with contextlib.suppress(OSError):
                # It waits in the backlog for a worker; one more each time would be served as well.
                if self.port:
                    connection = socket.create_connection(("127.0.0.1", self.port), seconds)
                else:
                    connection = socket.socket(socket.AF_UNIX)
                    connection.settimeout(seconds)
                    connection.connect(self.bind.removeprefix("unix:"))
                with connection:
                    connection.sendall(b"GET /_ops/ping HTTP/1.0\r\n\r\n")
                    return connection.recv(1) != b""
            return False

        wait_until(answers, "the server answers", seconds=seconds)
        return self

    def __enter__(self) -> "GunicornProcess":
        self.start()
        return self
