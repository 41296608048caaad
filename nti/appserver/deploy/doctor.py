"""`nti-appserver doctor --check`: would new workers start? Asked before the old ones are let go.

Runs in a process of its own, and what may fail in a further one.
"""

import subprocess
import sys
from pathlib import Path

import click

#: How long the configuration and the application may take to load.
LOADING_SECONDS = 60


@click.command()
@click.option("--check", is_flag=True, required=True, help="Would new workers start?")
@click.option(
    "--gunicorn",
    "config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    required=True,
    metavar="FILE",
    help="gunicorn's configuration file.",
)
def doctor(check: bool, config: Path) -> None:
    """Read gunicorn's configuration and import the application, as a reload would.

    The exit status is 0 when both succeed. The running site is not touched.
    """
    command = [sys.executable, "-m", "nti.appserver.deploy.rehearsal", str(config)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LOADING_SECONDS)
    except subprocess.TimeoutExpired:
        raise click.ClickException(
            f"{config} and its application did not load within {LOADING_SECONDS} s"
        ) from None
    if done.returncode:
        click.echo(done.stdout + done.stderr, err=True, nl=False)
        raise click.ClickException("new workers would not start; running ones were not touched")
    click.echo("new workers would start")
