"""What the workers of a site tell of themselves: one file each in `runtime_dir`/ops.

A worker writes its record every second, before it answers for all workers, and
when it ends. Any worker, and any terminal of the same user, reads them all. So
nobody waits for a worker that is blocked, and a total never goes back: what was
once told is in a file.

Counters outlive their worker: the record of a process that is gone is added to
`retired.json` and removed, both under one lock. `retired.json` names the
records it holds, so an end between the two steps counts nothing twice. The sums
begin anew when no gunicorn that wrote here lives any more.

All methods do small file operations on local files and do not switch, except
that waiting for the lock calls `pause`.
"""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from nti.appserver.errors import ServiceUnavailable
from nti.appserver.ops.exposition import Family, added, lasting
from nti.appserver.ops.processes import Identity, is_alive
from nti.appserver.settings import Settings

#: See `housekeeping.Housekeeping.record` for what is in one.
Record = dict[str, Any]

#: A record's state: the worker accepts; it runs its last lines. Between the two it drains.
SERVING, ENDED = "serving", "ended"

#: Seconds to wait for the lock; it is held for milliseconds.
PATIENCE = 2.0


def folder_for(settings: Settings) -> Path:
    """Where the workers of the site with these settings leave their records."""
    return Path(settings.runtime_dir or os.path.join(settings.var, "run")) / "ops"


#: What to do where a command finds no worker.
ELSEWHERE = "run it in the site's folder, or name the site's var with --var"


def recorded(folder: Path) -> list[Record]:
    """For commands beside the site: the records of its living workers.

    :raises ServiceUnavailable: no worker has ever written there, or the records are locked.
    :raises PermissionError: they are another user's.
    """
    if not folder.is_dir():
        raise ServiceUnavailable(f"no worker has written to {folder}; {ELSEWHERE}")
    return Registry(folder).workers()


class Registry:
    """The records of all workers that share a folder.

    :param pause: lets others run for about 10 ms; `time.sleep` is right in a
        patched process too, where it switches.
    """

    def __init__(self, folder: Path, pause: Callable[[float], object] = time.sleep) -> None:
        self.folder = folder
        self._pause = pause

    def join(self) -> None:
        """Make the folder; forget what gunicorns left there that are all gone.

        :raises OSError: the folder cannot be made or written.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._locked():
            masters = {_identity(found["master"]) for found in self._records().values()}
            masters |= {_identity(master) for master in self._retired()["masters"]}
            if not any(map(is_alive, masters)):
                for path in (*self._paths(), self.folder / "retired.json"):
                    path.unlink(missing_ok=True)

    def write(self, record: Record) -> None:
        """Replace this process's own record, in one step."""
        pid, started = record["worker"]
        _replace(self.folder / f"worker-{pid}-{started}.json", record)

    def workers(self) -> list[Record]:
        """The records of the workers that live, the oldest first."""
        with self._locked():
            return self._living()

    def families(self) -> list[Family]:
        """Every instrument, added up over the workers that live and those that have gone.

        :raises ServiceUnavailable: another process held the lock for too long.
        """
        with self._locked():
            living = self._living()
            retired = self._retired()["families"]
        return added([retired, *(record["families"] for record in living)])

    def _living(self) -> list[Record]:
        """Locked: the living workers' records; those of the dead are retired."""
        living, dead = [], []
        for path, record in self._records().items():
            if is_alive(_identity(record["worker"])):
                living.append(record)
            else:
                dead.append((path, record))
        if dead:
            self._retire(dead)
        return sorted(living, key=lambda record: float(record["booted"]))

    def _retire(self, dead: list[tuple[Path, Record]]) -> None:
        retired = self._retired()
        fresh = [record for _, record in dead if record["worker"] not in retired["held"]]
        retired["families"] = added(
            [retired["families"], *(lasting(record["families"]) for record in fresh)]
        )
        # Names are kept only until their files are gone: then nothing can add them again.
        retired["held"] = [record["worker"] for _, record in dead]
        masters = [*retired["masters"], *(record["master"] for record in fresh)]
        retired["masters"] = [list(who) for who in {_identity(who) for who in masters}]
        retired["masters"] = [who for who in retired["masters"] if is_alive(_identity(who))]
        _replace(self.folder / "retired.json", retired)
        for path, _ in dead:
            path.unlink(missing_ok=True)

    def _retired(self) -> Record:
        return _read(self.folder / "retired.json") or {"families": [], "held": [], "masters": []}

    def _records(self) -> dict[Path, Record]:
        found = ((path, _read(path)) for path in self._paths())
        return {path: record for path, record in found if record is not None}

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob("worker-*.json"))

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the folder's lock; it ends with the process, however that ends."""
        try:
            file = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            raise ServiceUnavailable(f"no worker has written to {self.folder}") from None
        try:
            deadline = time.monotonic() + PATIENCE
            # Never a blocking flock: it would keep every other greenlet from running.
            while not _try_lock(file):
                if time.monotonic() > deadline:
                    raise ServiceUnavailable("the workers' records are locked")
                self._pause(0.01)
            yield
        finally:
            os.close(file)


def _try_lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _identity(pair: Any) -> Identity:
    return int(pair[0]), int(pair[1])


def _read(path: Path) -> Record | None:
    """A record; None where there is none or what is there was not written by this version."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _replace(path: Path, value: Record) -> None:
    temporary = path.with_suffix(f".{os.getpid()}.new")
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
        json.dump(value, stream, separators=(",", ":"))
    os.replace(temporary, path)
