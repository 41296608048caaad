"""`nti-appserver status`: what each worker of a site is doing, for a terminal.

Runs in a process of its own, unpatched. It reads the workers' records, asks
each worker for its stacks by a signal, and writes nothing.
"""

import json
import os
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import click

from nti.appserver.errors import AppServerError
from nti.appserver.ops import dumps, stacks
from nti.appserver.ops.processes import is_alive
from nti.appserver.ops.registry import ENDED, Record, folder_for, recorded
from nti.appserver.settings import load_settings

MIB = 1024 * 1024

#: Seconds to wait for a worker's stacks: one that takes longer is blocked.
PATIENCE = 2.0

#: A record older than this many seconds was not renewed when it should have been.
STALE = 3.0

#: Columns that instruments give: heading, instrument, how to show its value.
COLUMNS: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("memory", "appserver_memory_bytes", lambda value: f"{value / MIB:.0f} MiB"),
    ("requests", "appserver_requests_total", lambda value: f"{value:.0f}"),
    ("in flight", "appserver_requests_in_flight", lambda value: f"{value:.0f}"),
    ("parked", "appserver_connections_parked", lambda value: f"{value:.0f}"),
    ("websockets", "appserver_websockets_open", lambda value: f"{value:.0f}"),
    ("sessions", "appserver_socketio_sessions", lambda value: f"{value:.0f}"),
    ("leases", "nti_transactions_leases", lambda value: f"{value:.0f}"),
    ("lateness", "appserver_hub_lateness_worst_seconds", lambda value: f"{value * 1000:.0f} ms"),
)


@click.command()
@click.option("--var", help="The site's folder, where it is not ./var.")
@click.option("--runtime-dir", help="The site's folder of sockets, where it has one of its own.")
@click.option("--stacks", "show_stacks", is_flag=True, help="The stacks of all greenlets, too.")
@click.option("--json", "as_json", is_flag=True, help="For machines: everything, as one object.")
def status(var: str | None, runtime_dir: str | None, show_stacks: bool, as_json: bool) -> None:
    """Show what each worker of the site is doing.

    Ends with 0 where every worker is well, 1 where one is not or none runs.
    """
    try:
        settings = load_settings(environ=os.environ, cli={"var": var, "runtime_dir": runtime_dir})
        folder = folder_for(settings)
        records = recorded(folder)
    except AppServerError as error:
        raise click.ClickException(str(error)) from None
    except PermissionError as error:
        raise click.ClickException(f"{error}; run it as the site's user") from None
    read = time.time()
    found = [{**record, "age": read - record["time"]} for record in records]
    found = [asked for record in found if (asked := _asked(folder, record)) is not None]
    if as_json:
        click.echo(json.dumps({"folder": str(folder), "workers": found}, indent=2))
    else:
        _print(str(folder), found, show_stacks)
    raise SystemExit(0 if found and not any(map(_trouble, found)) else 1)


def _asked(folder: Any, record: Record) -> Record | None:
    """The record with the worker's stacks, or a text that says why there are none.

    None where the worker has ended since it wrote.
    """
    pid, started = record["worker"]
    try:
        if record["state"] == ENDED:  # it answers no more
            answer: Any = ""
        else:
            answer = dumps.ask(folder, (pid, started), PATIENCE)
    except (ProcessLookupError, PermissionError) as error:
        answer = str(error.strerror)
    return {**record, "stacks": answer} if is_alive((pid, started)) else None


def _trouble(found: Mapping[str, Any]) -> str:
    """What is wrong with a worker; '' when nothing is."""
    late = found["age"] > STALE
    if found["state"] == ENDED:
        return f"its process has not ended within {found['age']:.0f} s" if late else ""
    if isinstance(found["stacks"], str):
        return "runs no Python code"
    if late:
        return f"its hub has been kept from running for {found['age']:.0f} s"
    return "; ".join(f"{name}: {reason}" for name, reason in found["problems"].items())


def _print(folder: str, found: list[dict[str, Any]], show_stacks: bool) -> None:
    if not found:
        click.echo(f"No worker runs on {folder}.")
        return
    masters = sorted({worker["master"][0] for worker in found})
    workers = "1 worker" if len(found) == 1 else f"{len(found)} workers"
    click.echo(f"{folder}: {workers} of gunicorn {', '.join(map(str, masters))}\n")
    head = ["worker", "up", "state", "greenlets", *(heading for heading, _, _ in COLUMNS)]
    for line in _aligned([head, *map(_row, found)]):
        click.echo(line)
    for worker in found:
        if trouble := _trouble(worker):
            click.echo(f"\nworker {worker['worker'][0]}: {trouble}")
        unanswered = isinstance(worker["stacks"], str) and worker["state"] != ENDED
        if unanswered or (show_stacks and worker["stacks"]):
            click.echo(f"\n== worker {worker['worker'][0]}\n{_stacks_text(worker['stacks'])}")


def _row(worker: Mapping[str, Any]) -> list[str]:
    values = {family["name"]: _total(family) for family in worker["families"]}
    answer = worker["stacks"]
    return [
        str(worker["worker"][0]),
        _span(time.time() - worker["booted"]),
        worker["state"],
        "?" if isinstance(answer, str) else str(answer["greenlets"]),
        *(show(values[name]) if name in values else "-" for _, name, show in COLUMNS),
    ]


def _total(family: Mapping[str, Any]) -> float:
    """An instrument's value over all its labels."""
    if family["kind"] == "histogram":
        return float(sum(sum(value[1]) for _, value in family["samples"]))
    return float(sum(value for _, value in family["samples"]))


def _span(seconds: float) -> str:
    """A time as one would say it: 42 s, 5 min, 3 h 20 min, 6 d 4 h."""
    minutes, hours, days = int(seconds) // 60, int(seconds) // 3600, int(seconds) // 86_400
    if days:
        return f"{days} d {hours % 24} h"
    if hours:
        return f"{hours} h {minutes % 60} min"
    return f"{minutes} min" if minutes else f"{seconds:.0f} s"


def _aligned(rows: list[list[str]]) -> Iterable[str]:
    """Lines whose columns stand under each other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))


def _stacks_text(answer: Any) -> str:
    if not isinstance(answer, str):
        return stacks.text(answer)
    return f"It does not answer. Its threads stand here, as far as is known:\n\n{answer}"
