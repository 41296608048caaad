"""`nti-appserver emit`: an event to the clients of a running site, from a shell or from cron."""

import json
import os

import click

from nti.appserver.settings import load_settings


@click.command(short_help="Emit an event to the site's Socket.IO clients.")
@click.argument("event")
@click.argument("data", default="null")
@click.option("--to", help="A room, or a client's sid; everybody when not given.")
@click.option("--namespace", default="/", show_default=True)
@click.option("--var", help="The site's folder, as its setting says.")
@click.option("--runtime-dir", help="The site's folder of sockets, as its setting says.")
def emit(
    event: str,
    data: str,
    to: str | None,
    namespace: str,
    var: str | None,
    runtime_dir: str | None,
) -> None:
    """Emit EVENT with DATA, which is JSON, to the Socket.IO clients of a running site."""
    from nti.appserver.socketio.emitter import Emitter

    try:
        value = json.loads(data)
    except ValueError as problem:
        raise click.BadParameter(f"{data!r} is not JSON: {problem}", param_hint="DATA") from None
    settings = load_settings(environ=os.environ, cli={"var": var, "runtime_dir": runtime_dir})
    reached = Emitter(settings).emit(event, value, to=to, namespace=namespace)
    if reached is not None:
        click.echo(f"told {reached} worker{'' if reached == 1 else 's'}")
    if reached == 0:
        raise SystemExit("no worker with clients was found; is it the right --var?")
