"""`nti-appserver index`: bring the index up to date, from a terminal.

Runs in a process of its own, unpatched, beside the site or without it.
"""

import sys
from typing import Any

import click

from nti.appserver.errors import AppServerError
from nti.appserver.pastefile import settings_from
from nti.appserver.settings import Settings


@click.command()
@click.option(
    "--config", envvar="NTI_APPSERVER_CONFIG", metavar="FILE", help="The site's PasteDeploy file."
)
@click.option("--library", help="The folder of content units; else the setting, else the sample.")
@click.option("--storage", help="Where objects are kept, as the setting says it.")
@click.option("--var", help="The site's folder, where it is not ./var.")
def index(config: str | None, **given: str | None) -> None:
    """Index the library's pages for searching.

    Only what is new or has changed is read. A run that was interrupted goes on
    where it was; the site may be serving meanwhile.
    """
    try:
        _run(settings_from(config, given))
    except AppServerError as error:
        raise click.ClickException(str(error)) from None
    except KeyboardInterrupt:
        raise click.ClickException("interrupted; the next run goes on from here") from None


def _run(settings: Settings) -> None:
    # Late: `nti-appserver --help` need not wait for the database's code.
    from nti.appserver.dataserver import open_library
    from nti.appserver.dataserver.library.indexing import IndexRun
    from nti.appserver.dataserver.locks import INDEX, Busy, Lock
    from nti.appserver.storage import open_database
    from nti.appserver.transactions import use_database

    lock = Lock(settings, INDEX)
    try:
        lock.take()
    except Busy:
        raise click.ClickException("the library is being indexed already") from None
    library = open_library(settings)
    database = open_database(settings.storage, settings)
    try:
        use_database(database)
        with _Bar() as bar:
            summary = IndexRun(library, report=bar.show)()
    finally:
        database.close()
        lock.release()
    rate = summary.indexed / summary.seconds if summary.seconds else 0.0
    click.echo(
        f"{summary.total} pages, {summary.indexed} indexed, {summary.removed} removed, "
        f"{summary.words:,} different words; {summary.seconds:.1f} s"
        + (f", {rate:.0f} pages/s" if summary.indexed else "")
    )
    if summary.unread:
        click.echo(f"{summary.unread} of them could not be read; they are named above", err=True)
    if not summary.total:
        click.echo(f"there are no HTML pages in {library.root}", err=True)


class _Bar:
    """A progress bar on a terminal; nothing elsewhere."""

    def __init__(self) -> None:
        self._bar: Any = None

    def __enter__(self) -> "_Bar":
        return self

    def show(self, done: int, total: int) -> None:
        if not sys.stderr.isatty() or not total:
            return
        if self._bar is None:
            self._bar = click.progressbar(
                length=total, label="Indexing", show_pos=True, file=sys.stderr
            )
            self._bar.__enter__()
        self._bar.update(done - self._bar.pos)

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.__exit__(*exception)
