"""A private PostgreSQL server for tests: on a unix socket, ended whatever happens.

It needs Debian's `postgresql` package, not a running cluster. PostgreSQL refuses
to run as root, so a root process starts it as the user `postgres`. Nothing here
patches the process that imports it; its methods block the calling thread.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from nti.appserver.testing.process import PATIENCE_SECONDS, STARTING_SECONDS, wait_until

SERVER_USER = "postgres"

#: Nothing survives the test, so nothing need reach the disk; a killed server loses no commit.
_OPTIONS = {
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "16MB",
    "listen_addresses": "",
    "max_prepared_transactions": "16",
}


def find_programs() -> Path | None:
    """The folder of `initdb` and `postgres`, newest version first, or None."""
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    versions = Path("/usr/lib/postgresql")
    folders = sorted(versions.glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    return folders[-1].parent if folders else None


class PostgreSQL:
    """A server with an empty cluster of its own; use it as a context manager.

    :raises FileNotFoundError: PostgreSQL's programs are not installed.
    """

    def __init__(self) -> None:
        programs = find_programs()
        if programs is None:
            raise FileNotFoundError("initdb: install the package postgresql")
        self.programs = programs
        self.folder = Path(tempfile.mkdtemp(prefix="postgresql-"))
        self.log = self.folder / "server.log"
        self.process: subprocess.Popen[bytes] | None = None

    def dsn(self, database: str = "postgres") -> str:
        """A connection string as libpq takes it."""
        return f"host={self.folder} user={SERVER_USER} dbname={database}"

    def url(self, database: str = "postgres", driver: str = "psycopg2") -> str:
        """A connection URL as SQLAlchemy takes it."""
        return f"postgresql+{driver}://{SERVER_USER}@/{database}?host={self.folder}"

    def zodburi(self, database: str = "postgres") -> str:
        """The storage URI of a RelStorage in `database`."""
        return f"postgresql://{SERVER_USER}@/{database}?host={self.folder}"

    def create_database(self, name: str) -> str:
        """Make an empty database; returns its connection string."""
        self._run("createdb", "-h", str(self.folder), "-U", SERVER_USER, name)
        return self.dsn(name)

    def start(self) -> "PostgreSQL":
        """Make the cluster, or take up that of a server that was killed; return when it answers."""
        data = self.folder / "data"
        if not data.exists():
            if os.geteuid() == 0:
                shutil.chown(self.folder, SERVER_USER, SERVER_USER)
            self._run("initdb", "-D", str(data), "-A", "trust", "-U", SERVER_USER, "--no-sync")
        options = [f"-c{name}={value}" for name, value in _OPTIONS.items()]
        with open(self.log, "ab") as output:
            self.process = subprocess.Popen(
                [
                    str(self.programs / "postgres"),
                    "-D",
                    str(data),
                    "-k",
                    str(self.folder),
                    *options,
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **self._identity(),
            )
        wait_until(self._answers, f"PostgreSQL answers, see {self.log}", seconds=STARTING_SECONDS)
        return self

    def kill(self) -> None:
        """SIGKILL to all its processes, and wait until the first is gone; `start` goes on."""
        assert self.process is not None, "not started"
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(PATIENCE_SECONDS)

    def processes(self) -> list[int]:
        """The server and its children, each of which has a session of its own."""
        assert self.process is not None, "not started"
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [self.process.pid, *map(int, children.read_text().split())]

    def stop(self) -> None:
        """End the server at once and remove its files."""
        if self.process is not None:
            self.process.send_signal(signal.SIGQUIT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(PATIENCE_SECONDS)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(PATIENCE_SECONDS)
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> "PostgreSQL":
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()
        probe: Sequence[str] = (str(self.programs / "pg_isready"), "-q", "-h", str(self.folder))
        return subprocess.run(probe, check=False).returncode == 0

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [str(self.programs / program), *arguments],
            check=True,
            capture_output=True,
            cwd="/",
            **self._identity(),
        )

    def _identity(self) -> dict[str, Any]:
        if os.geteuid() != 0:
            return {}
        return {"user": SERVER_USER, "group": SERVER_USER, "extra_groups": ()}
