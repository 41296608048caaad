"""The command `nti-appserver`: `serve`, and what rooms add by entry point.

A room adds a command by one line under `[project.entry-points."nti.appserver.commands"]`,
a click command named as `module:name`; it is imported when it is asked for.
`serve` becomes gunicorn's arbiter, so this module imports nothing that the
arbiter must not have; see `nti.appserver.gunicorn`.
"""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import EntryPoint, entry_points, version
from typing import Any

import click
from gunicorn.app.base import Application

from nti.appserver.application.configured import make_app
from nti.appserver.errors import AppServerError
from nti.appserver.settings import Row, load_settings, table
from nti.appserver.worker.deferred import WSGIApplication

WORKER_CLASS = "nti.appserver.gunicorn.GeventApplicationWorker"
COMMANDS = "nti.appserver.commands"
BIND = "127.0.0.1:8081"


class Site(Application):  # type: ignore[misc]
    """gunicorn with our worker class, configured by our settings and gunicorn's own options.

    :param config: a PasteDeploy file, or None.
    :param given: settings that the command line gives.
    :param options: gunicorn's own options, as on its command line.
    """

    def __init__(self, config: str | None, given: dict[str, Any], options: Sequence[str]) -> None:
        self._config = config
        self._given = given
        self._options = list(options)
        super().__init__("%(prog)s [OPTIONS]", prog="nti-appserver serve [SETTINGS] --")

    def init(self, parser: Any, opts: Any, args: Sequence[str]) -> dict[str, Any]:
        """What holds unless gunicorn's configuration file, environment or options say otherwise."""
        if args:
            parser.error(f"unexpected: {' '.join(args)}")
        return {"bind": BIND, "default_proc_name": "nti-appserver"}

    def load_config(self) -> None:
        """Read gunicorn's options, at the start and at each HUP."""
        with _arguments([sys.argv[0], *self._options]):
            super().load_config()
        self.cfg.set("worker_class", WORKER_CLASS)

    def load(self) -> WSGIApplication:
        """The application; in the arbiter only promised."""
        return make_app(self._config, **self._given)


@contextmanager
def _arguments(argv: list[str]) -> Iterator[None]:
    """Within it gunicorn finds its own options on the command line, and no others."""
    saved, sys.argv = sys.argv, argv
    try:
        yield
    finally:
        sys.argv = saved


class Commands(click.Group):
    """The commands of this module, and those of the entry points."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, sorted."""
        return sorted({*super().list_commands(ctx), *_added()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name; an added one is imported now."""
        added = _added().get(cmd_name)
        if added is None:
            return super().get_command(ctx, cmd_name)
        try:
            command: click.Command = added.load()
        except Exception as problem:
            return _broken(cmd_name, f"{added.value} cannot be imported: {problem}")
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; what the operator can mend is told without a traceback."""
        try:
            return super().invoke(ctx)
        except AppServerError as problem:
            raise click.ClickException(str(problem)) from problem


def _broken(name: str, why: str) -> click.Command:
    """A command that only says why it is not there, so that the others and --help are."""

    def fail() -> None:
        raise click.ClickException(f"{name}: {why}")

    return click.Command(name, callback=fail, short_help=why, add_help_option=False)


def _added() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=COMMANDS)}


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("nti.appserver"), package_name="nti.appserver")
def main() -> None:
    """Serve a site, and look after it."""


def settings_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator: an option for each row of the settings table, None when not given."""
    for row in reversed(table()):
        function = click.option(row.option, row.name, metavar=_metavar(row), help=_help(row))(
            function
        )
    return function


def _metavar(row: Row) -> str:
    return {str: "TEXT", bool: "true|false", int: "NUMBER", float: "SECONDS", tuple: "WORDS"}[
        type(row.default)
    ]


def _help(row: Row) -> str:
    default = f" Default: {row.default_text}." if row.default_text else ""
    return row.doc + default


@main.command(short_help="Serve an application by gunicorn, with our worker.")
@click.option("--config", metavar="FILE", help="A PasteDeploy file, such as development.ini.")
@settings_options
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[APP] [-- OPTIONS]")
def serve(config: str | None, arguments: tuple[str, ...], **given: Any) -> None:
    """Serve APP (module:name), or what the settings name, on 127.0.0.1:8081.

    Everything after `--` goes to gunicorn, such as `-- --workers 4 --bind
    0.0.0.0:8000`.
    """
    options = list(arguments)
    if options and not options[0].startswith("-"):
        given["application"] = options.pop(0)
    config = config or os.environ.get("NTI_APPSERVER_CONFIG")
    given = {name: value for name, value in given.items() if value is not None}
    load_settings(environ=os.environ, cli=given)
    Site(config, given, options).run()
