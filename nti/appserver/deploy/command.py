"""`nti-appserver config SYSTEM`: the commands, made from the catalogue and the options' table.

Runs in a process of its own that serves nothing.
"""

from pathlib import Path

import click

from nti.appserver.deploy.options import by_name
from nti.appserver.deploy.output import as_text, write
from nti.appserver.deploy.render import find_variant, render
from nti.appserver.deploy.systems import SYSTEMS, System
from nti.appserver.errors import ConfigurationError


def _run(
    system: System, variant: str, output: Path | None, force: bool, options: dict[str, object]
) -> None:
    given = {name: value for name, value in options.items() if value not in (None, ())}
    try:
        files = render(system.name, variant, **given)
        if output is None:
            click.echo(as_text(files), nl=False)
            return
        for path in write(files, output, replace=force):
            click.echo(str(path))
        click.echo(f"Check it with: {_check(system, variant, output)}", err=True)
    except ConfigurationError as problem:
        raise click.ClickException(str(problem)) from None


def _check(system: System, variant: str, output: Path) -> str:
    """The system's check, of the files where they were written."""
    command = system.check
    for file in find_variant(system, variant).files:
        command = command.replace(f"{file.place}{file.name}", str(output / file.name))
    return command


def _option(system: System, name: str) -> click.Option:
    option = by_name()[name]
    takers = [variant for variant in system.variants if name in variant.options]
    defaults = {dict(variant.defaults).get(name, option.default) for variant in takers}
    help_text = f"{option.doc} [{' or '.join(sorted(defaults))}]"
    if len(takers) < len(system.variants):
        help_text += f" Variants: {', '.join(variant.name for variant in takers)}."
    if option.many:
        help_text += " Repeat it for more."
    return click.Option([option.flag], help=help_text, multiple=option.many, metavar=option.metavar)


def _help(system: System) -> str:
    """What the system is for, its variants one to a line, and what to do with the result."""
    width = max(len(variant.name) for variant in system.variants)
    lines = [f"{variant.name:<{width}}  {variant.doc}" for variant in system.variants]
    parts = [system.doc]
    if len(lines) > 1:
        parts.append("\b\n" + "\n".join(["Variants:", *(f"  {line}" for line in lines)]))
    return "\n\n".join(parts)


def _command(system: System) -> click.Command:
    variants = [variant.name for variant in system.variants]

    def callback(variant: str, output: Path | None, force: bool, **options: object) -> None:
        _run(system, variant, output, force, options)

    params: list[click.Parameter] = [
        click.Option(
            ["--variant"],
            type=click.Choice(variants),
            default=variants[0],
            show_default=True,
            help="Which configuration.",
        ),
        click.Option(
            ["-o", "--output"],
            type=click.Path(path_type=Path),
            metavar="FOLDER",
            help="Write files there instead of to standard output.",
        ),
        click.Option(["--force"], is_flag=True, help="Replace files that are there."),
        *(_option(system, name) for name in system.options),
    ]
    epilog = f"\b\nCheck it with:   {system.check}"
    if system.apply:
        epilog += f"\nPut it to use:   {system.apply}"
    return click.Command(
        system.name,
        params=params,
        callback=callback,
        help=_help(system),
        short_help=system.doc,
        epilog=epilog,
    )


config = click.Group(
    "config",
    commands={system.name: _command(system) for system in SYSTEMS},
    help="Print the configuration of a system around the server, from its tested template.",
    short_help="Print the configuration of nginx, systemd and others.",
)
