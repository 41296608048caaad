"""`nti-appserver doctor`: the command line, for people and for machines.

Runs in a process of its own; what may fail, in a further one.
"""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

import click

from nti.appserver.doctor.finding import Check, Finding, Severity
from nti.appserver.doctor.subject import Subject, rehearse
from nti.appserver.doctor.table import CHECKS
from nti.appserver.errors import ConfigurationError
from nti.appserver.settings import load_settings

Findings = list[tuple[Check, Finding]]

_NAMES = [check.name for check in CHECKS]


@click.command(short_help="Say what is wrong with a site, and how to mend it.")
@click.option("--check", is_flag=True, help="Only: would new workers start? Asked by a reload.")
@click.option(
    "--gunicorn",
    "config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="gunicorn's configuration file.",
)
@click.option("--var", help="The site's folder, where it is not ./var.")
@click.option(
    "--url",
    "urls",
    multiple=True,
    metavar="URL",
    help="Where readers reach the site; asked for what proxies do on the way. More than one goes.",
)
@click.option(
    "--only",
    multiple=True,
    type=click.Choice(_NAMES),
    metavar="CHECK",
    help="Only this check, such as storage; repeat.",
)
@click.option("--slow", is_flag=True, help="Also wait for what happens after half a minute.")
@click.option("--strict", is_flag=True, help="Let warnings count for the exit status.")
@click.option("--json", "as_json", is_flag=True, help="For machines: everything, as one object.")
def doctor(
    check: bool,
    config: Path | None,
    var: str | None,
    urls: tuple[str, ...],
    only: tuple[str, ...],
    slow: bool,
    strict: bool,
    as_json: bool,
) -> None:
    """Say what is wrong with a site that runs or is to run, why it matters, and the mend.

    Run it in the site's folder, as its user, with its environment. Ends with 0
    where nothing is wrong, 1 where there are faults (with --strict, or
    warnings), 2 where it could not look.
    """
    try:
        if check:
            _would_start(config)
            return
        settings = load_settings(environ=os.environ, cli={"var": var})
        subject = Subject(settings, config, tuple(map(_url, urls)), slow)
        checks = [each for each in CHECKS if not only or each.name in only]
        found = list(_findings(subject, checks))
    except ConfigurationError as problem:
        click.echo(f"Error: {problem}", err=True)
        raise SystemExit(1 if check else 2) from None
    click.echo(_as_json(checks, found) if as_json else _as_text(checks, found))
    bad = any(finding.severity is Severity.FAULT or strict for _, finding in found)
    raise SystemExit(1 if bad else 0)


def _would_start(config: Path | None) -> None:
    loaded = rehearse(config, storages=False)
    if loaded.failed:
        click.echo(loaded.failed, err=True)
        raise ConfigurationError("new workers would not start; running ones were not touched")
    click.echo("new workers would start")


def _url(text: str) -> SplitResult:
    found = urlsplit(text)
    if found.scheme not in ("http", "https") or not found.hostname:
        raise ConfigurationError(f"--url is {text!r}", "a URL such as https://example.org/")
    return found


def _findings(subject: Subject, checks: Sequence[Check]) -> Iterator[tuple[Check, Finding]]:
    for check in checks:
        if check.needs_url and not subject.urls:
            continue
        for finding in check.run(subject):
            yield check, finding


def _as_json(checks: Sequence[Check], found: Findings) -> str:
    findings = [
        {
            "check": check.name,
            "severity": str(finding.severity),
            "about": finding.about,
            "seen": finding.seen,
            "why": finding.why,
            "mend": finding.mend,
        }
        for check, finding in found
    ]
    return json.dumps({"checks": [check.name for check in checks], "findings": findings}, indent=2)


def _as_text(checks: Sequence[Check], found: Findings) -> str:
    parts = []
    for check, finding in found:
        lines = [f"{finding.severity.upper()} {check.name}: {finding.about}"]
        for name in ("seen", "why", "mend"):
            text = getattr(finding, name).replace("\n", "\n        ")
            lines.append(f"  {name + ':':<5} {text}")
        parts.append("\n".join(lines) + "\n")
    faults = sum(finding.severity is Severity.FAULT for _, finding in found)
    counts = {"check": len(checks), "fault": faults, "warning": len(found) - faults}
    parts.append(", ".join(f"{n} {what}{'' if n == 1 else 's'}" for what, n in counts.items()))
    return "\n".join(parts)
