"""`nti-appserver reload`: have the workers replaced, and wait until the new ones serve.

gunicorn answers HUP at once and starts its workers afterwards, so who sends one
does not know when the new code serves, or whether. The workers' records tell.
Runs in a process of its own, unpatched, and writes nothing.
"""

import os
import signal
import time
from dataclasses import dataclass

import click

from nti.appserver.errors import AppServerError
from nti.appserver.ops.processes import Identity, identity, is_alive
from nti.appserver.ops.registry import (
    ELSEWHERE,
    SERVING,
    Record,
    Registry,
    folder_for,
    recorded,
)
from nti.appserver.settings import load_settings

#: Seconds between two looks at the records, which workers write once a second.
LOOK_EVERY = 0.2


@dataclass(frozen=True)
class Standing:
    """How far a reload has come.

    :param fresh: new workers that serve.
    :param old: former ones that serve as if nothing had been asked for.
    :param finishing: former ones that finish what they have in hand.
    """

    fresh: int
    old: int
    finishing: int

    @property
    def done(self) -> bool:
        return self.fresh > 0 and not self.old


@click.command(short_help="Start new workers with new code, and wait for them.")
@click.option("--pid", type=int, help="gunicorn's main process; found by the records otherwise.")
@click.option("--var", help="The site's folder, where it is not ./var.")
@click.option("--runtime-dir", help="The site's folder of sockets, where it has one of its own.")
@click.option(
    "--timeout", default=60.0, show_default=True, help="Wait no longer than this, in seconds."
)
def reload(pid: int | None, var: str | None, runtime_dir: str | None, timeout: float) -> None:
    """Have new workers started with new code, and wait until they serve.

    Old workers finish what they have in hand, which is not waited for. Ends
    with 0 where the new ones serve, 1 where they do not: the old ones serve on.
    """
    try:
        settings = load_settings(environ=os.environ, cli={"var": var, "runtime_dir": runtime_dir})
        registry = Registry(folder_for(settings))
        records = _workers_of(pid, registry)
        master = identity(pid) if pid is not None else _master(registry, records)
        _tell(master[0])
        if not records:
            click.echo(f"gunicorn {master[0]} was told; no worker has written to {registry.folder}")
            return
        former = frozenset(_worker(record) for record in records)
        standing = _wait(registry, master, former, timeout)
    except AppServerError as error:
        raise click.ClickException(str(error)) from None
    except PermissionError as error:
        raise click.ClickException(f"{error}; run it as the site's user") from None
    click.echo(f"{standing.fresh} new workers serve, {standing.finishing} old ones finish")


def _tell(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGHUP)
    except ProcessLookupError:
        raise AppServerError(f"there is no process {pid}") from None


def _workers_of(pid: int | None, registry: Registry) -> list[Record]:
    """The living workers; none where nobody wrote and `pid` says whom to tell all the same."""
    try:
        return [
            record for record in recorded(registry.folder) if pid in (None, record["master"][0])
        ]
    except (AppServerError, PermissionError):
        if pid is None:
            raise
        return []


def _master(registry: Registry, records: list[Record]) -> Identity:
    found = {(int(pid), int(started)) for pid, started in (each["master"] for each in records)}
    if not found:
        raise AppServerError(f"no worker runs on {registry.folder}; {ELSEWHERE}")
    if len(found) != 1:
        named = ", ".join(str(pid) for pid, _ in sorted(found))
        raise AppServerError(
            f"gunicorns with workers on {registry.folder}: {named}; say with --pid which one"
        )
    return found.pop()


def _wait(
    registry: Registry, master: Identity, former: frozenset[Identity], timeout: float
) -> Standing:
    """Return when new workers serve and the former ones do not.

    :raises AppServerError: gunicorn has ended, or the time is over.
    """
    ends = time.monotonic() + timeout
    while not (standing := _standing(registry.workers(), master, former)).done:
        if not is_alive(master):
            raise AppServerError(f"gunicorn {master[0]} has ended; its log says why")
        if time.monotonic() > ends:
            raise AppServerError(
                f"after {timeout:.0f} s {standing.fresh} new workers serve, and so do "
                f"{standing.old} old ones; the log says what the new ones wait for or why they end"
            )
        time.sleep(LOOK_EVERY)
    return standing


def _standing(records: list[Record], master: Identity, former: frozenset[Identity]) -> Standing:
    ours = [record for record in records if record["master"][0] == master[0]]
    old = [record for record in ours if _worker(record) in former]
    serving = [record for record in old if record["state"] == SERVING]
    fresh = [record for record in ours if _worker(record) not in former]
    fresh = [record for record in fresh if record["state"] == SERVING]
    return Standing(len(fresh), len(serving), len(old) - len(serving))


def _worker(record: Record) -> Identity:
    pid, started = record["worker"]
    return int(pid), int(started)
