"""`nti-appserver pack`: give back the room of old revisions, the site going on meanwhile.

Runs in a process of its own, unpatched, as one more client of the storage; the
work is done where the storage is: in the ZEO server, in PostgreSQL, or here for a file
that nobody else has open. A native thread waits for its end while the main
thread shows how far it is.
"""

import logging
import shutil
import sys
import threading
import time
from pathlib import Path
from typing import Any

import click
from ZODB.DB import DB

from nti.appserver.errors import AppServerError, ConfigurationError
from nti.appserver.pastefile import settings_from
from nti.appserver.settings import Settings
from nti.appserver.storage.database import open_database
from nti.appserver.storage.embedded.place import Place

LOOK_SECONDS = 0.2

#: Between lines where nobody looks at a terminal.
LINE_SECONDS = 10.0

MIB = 1024 * 1024


@click.command(short_help="Pack the database: old revisions and garbage go.")
@click.option(
    "--config", envvar="NTI_APPSERVER_CONFIG", metavar="FILE", help="The site's PasteDeploy file."
)
@click.option("--days", default=0.0, help="Keep the revisions of so many days; default: none.")
@click.option("--storage", help="What to pack, as the setting says it.")
@click.option("--var", help="The site's folder, where it is not ./var.")
def pack(config: str | None, days: float, **given: str | None) -> None:
    """Pack the database: old revisions go, and objects that nothing refers to.

    The site may be serving meanwhile, unless its storage is a file:// of its own.
    """
    if days < 0:
        raise click.BadParameter(f"saw {days:g}, expected 0 or more", param_hint="--days")
    try:
        _run(settings_from(config, given), days)
    except AppServerError as error:
        raise click.ClickException(str(error)) from None


def _run(settings: Settings, days: float) -> None:
    """Pack the database that is there; none is made.

    :raises ConfigurationError: none is there, or it cannot be opened.
    """
    file = _data_file(settings)
    if file is not None and not file.exists():
        raise ConfigurationError(
            f"there is no database {file}",
            "that of a site",
            "run it in the site's folder, or name the site's var with --var",
        )
    database = open_database(settings.storage, settings)
    try:
        before = database.getSize()
        work = _Work(database, days)
        with Progress(file) as progress:
            work.start()
            while work.is_alive():
                progress.show()
                work.join(LOOK_SECONDS)
        if work.problem is not None:
            raise click.ClickException(f"packing failed: {work.problem}") from work.problem
        after = _size_now(database)
    finally:
        database.close()
    click.echo(f"{before / MIB:.1f} MiB before, {after / MIB:.1f} MiB after; {work.seconds:.1f} s")


class _Work(threading.Thread):
    """The packing itself; `problem` is what kept it from its end."""

    def __init__(self, database: DB, days: float) -> None:
        super().__init__(daemon=True)
        self._database = database
        self._days = days
        self.problem: Exception | None = None
        self.seconds = 0.0

    def run(self) -> None:
        began = time.monotonic()
        try:
            self._database.pack(days=self._days)
        except Exception as problem:
            self.problem = problem
        self.seconds = time.monotonic() - began


def _size_now(database: DB) -> int:
    """The size after a pack; a ZEO client knows that of its connection's time alone."""
    call = getattr(database.storage, "_call", None)
    if call is not None:
        return int(call("get_info")["size"])
    return int(database.getSize())


def _data_file(settings: Settings) -> Path | None:
    """The FileStorage that is packed, where it is on this machine's disk."""
    if settings.storage == "embedded":
        return Path(Place.of(settings).file)
    scheme, _, path = settings.storage.partition("://")
    return Path(path.partition("?")[0]) if scheme == "file" else None


class Progress:
    """How far a pack is: on a terminal at once, elsewhere a line from time to time.

    A FileStorage copies what stays into a file beside it, `Data.fs.pack`; where
    that can be seen a bar shows it, full when nothing was to go. RelStorage says what it
    does in its log, the last line of which is shown.
    """

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._size = file.stat().st_size if file is not None and file.exists() else 0
        self._began = self._shown = time.monotonic()
        self._terminal = sys.stderr.isatty()
        self._bar: Any = None
        self._log = _LastLine()

    def __enter__(self) -> "Progress":
        self._log.listen()
        return self

    def show(self) -> None:
        copied = self._copied()
        if not self._terminal:
            if time.monotonic() - self._shown >= LINE_SECONDS:
                self._shown = time.monotonic()
                click.echo(self._line(copied), err=True)
        elif copied is None:
            click.echo(f"\r{self._line(None)}\x1b[K", nl=False, err=True)
        else:
            if self._bar is None:
                click.echo("\r\x1b[K", nl=False, err=True)
                self._bar = click.progressbar(length=self._size, label="Packing", file=sys.stderr)
                self._bar.__enter__()
            self._bar.update(max(min(copied, self._size) - self._bar.pos, 0))

    def _line(self, copied: int | None) -> str:
        seconds = time.monotonic() - self._began
        if copied is not None:
            return f"Packing, {seconds:.0f} s, {copied / self._size:.0%}"
        width = shutil.get_terminal_size().columns - len("Packing, 99999 s: ")
        said = f": {self._log.line[:width]}" if self._log.line else ""
        return f"Packing, {seconds:.0f} s{said}"

    def _copied(self) -> int | None:
        """Bytes copied so far; None while nothing is being copied, or cannot be seen."""
        if self._file is None or not self._size:
            return None
        try:
            return self._file.with_name(self._file.name + ".pack").stat().st_size
        except FileNotFoundError:
            return None if self._bar is None else self._size

    def __exit__(self, *exception: object) -> None:
        self._log.end()
        if self._bar is not None:
            self._bar.__exit__(*exception)
        elif self._terminal:
            click.echo(err=True)


class _LastLine(logging.Handler):
    """What RelStorage has logged last."""

    SOURCE = "relstorage"

    def __init__(self) -> None:
        super().__init__()
        self.line = ""

    def listen(self) -> None:
        logger = logging.getLogger(self.SOURCE)
        logger.setLevel(logging.INFO)
        logger.addHandler(self)
        logger.propagate = False

    def end(self) -> None:
        logging.getLogger(self.SOURCE).removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.line = record.getMessage()
