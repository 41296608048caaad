"""The directive `command-help`: what `nti-appserver COMMAND --help` prints.

`serve` has an option for each setting, which the settings page lists; its
`:without-settings:` leaves those out.
"""

from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

import click
from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from nti.appserver import cli, settings

WIDTH = 88


def help_of(name: str, *, without_settings: bool) -> str:
    """The help of one command; of the group where `name` is empty."""
    group = click.Context(cli.main, info_name="nti-appserver", terminal_width=WIDTH)
    if not name:
        return group.get_help()
    command = cli.main.get_command(group, name)
    if command is None:
        raise ValueError(f"nti-appserver has no command {name!r}")
    if without_settings:
        names = {row.name for row in settings.table()}
        kept = [one for one in command.params if one.name not in names]
        command = click.Command(name, help=command.help, params=kept)
    return click.Context(command, parent=group, info_name=name, terminal_width=WIDTH).get_help()


def sources() -> list[str]:
    """The files that the help comes from: where one changes, the page is made anew."""
    modules = [import_module(point.module) for point in entry_points(group=cli.COMMANDS)]
    return [str(module.__file__) for module in (cli, settings, *modules)]


class CommandHelp(SphinxDirective):
    """The help of the command that the argument names."""

    optional_arguments = 1
    option_spec = {"without-settings": directives.flag}

    def run(self) -> list[nodes.Node]:
        for source in sources():
            self.env.note_dependency(source)
        name = self.arguments[0] if self.arguments else ""
        text = help_of(name, without_settings="without-settings" in self.options)
        return [nodes.literal_block(text, text, language="none")]


def setup(app: Sphinx) -> dict[str, Any]:
    """Sphinx calls this when it loads the extension."""
    app.add_directive("command-help", CommandHelp)
    return {"parallel_read_safe": True}
