"""`nti-appserver pack`: give back the room of old revisions, the site going on meanwhile.

Runs in a process of its own, unpatched, as one more client of the storage; the
work is done where the storage is: in the ZEO server, in PostgreSQL, or here for a file
that nobody else has open. A native thread waits for its end while the main
thread shows how far it is.
"""

import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import click
from ZODB.DB import DB

from nti.appserver.errors import AppServerError
from nti.appserver.settings import Settings, load_settings
from nti.appserver.storage.database import open_database
from nti.appserver.storage.embedded.place import Place

LOOK_SECONDS = 0.2
MIB = 1024 * 1024


@click.command()
@click.option("--days", default=0.0, help="Keep the revisions of so many days; default: none.")
@click.option("--storage", help="What to pack, as the setting says it.")
@click.option("--var", help="The site's folder, where it is not ./var.")
def pack(days: float, storage: str | None, var: str | None) -> None:
    """Pack the database: old revisions go, and objects that nothing refers to.

    The site may be serving meanwhile, unless its storage is a file:// of its own.
    """
    if days < 0:
        raise click.BadParameter(f"saw {days:g}, expected 0 or more", param_hint="--days")
    try:
        _run(load_settings(environ=os.environ, cli={"storage": storage, "var": var}), days)
    except AppServerError as error:
        raise click.ClickException(str(error)) from None


def _run(settings: Settings, days: float) -> None:
    database = open_database(settings.storage, settings)
    try:
        before = database.getSize()
        work = _Work(database, days)
        with Progress(_data_file(settings)) as progress:
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
    """How far a pack is, on a terminal: a bar where the file that it writes can be seen.

    A FileStorage copies what stays into a file beside it, `Data.fs.pack`; the
    bar is full when nothing was to go.
    """

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._size = file.stat().st_size if file is not None and file.exists() else 0
        self._began = time.monotonic()
        self._shown = sys.stderr.isatty()
        self._bar: Any = None

    def __enter__(self) -> "Progress":
        return self

    def show(self) -> None:
        if not self._shown:
            return
        copied = self._copied()
        if copied is None:
            seconds = time.monotonic() - self._began
            click.echo(f"\rPacking, {seconds:.0f} s", nl=False, err=True)
            return
        if self._bar is None:
            self._bar = click.progressbar(length=self._size, label="Packing", file=sys.stderr)
            self._bar.__enter__()
        self._bar.update(max(min(copied, self._size) - self._bar.pos, 0))

    def _copied(self) -> int | None:
        """Bytes copied so far; None while nothing is being copied, or cannot be seen."""
        if self._file is None or not self._size:
            return None
        try:
            return self._file.with_name(self._file.name + ".pack").stat().st_size
        except FileNotFoundError:
            return None if self._bar is None else self._size

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.__exit__(*exception)
        elif self._shown:
            click.echo(err=True)
