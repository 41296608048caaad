"""Versions of what runs the site: those asked for, and those with known faults."""

import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from nti.appserver.doctor.finding import Finding, fault, warning
from nti.appserver.doctor.subject import Subject

DISTRIBUTION = "nti.appserver"


@dataclass(frozen=True)
class Known:
    """A fault that certain versions have.

    :param versions: those that have it.
    :param why: what it leads to, and its public number.
    :param mend: the versions to take.
    """

    name: str
    versions: str
    why: str
    mend: str


#: Python distributions.
PACKAGES = (
    Known(
        "gunicorn",
        "<22.0",
        "requests can be smuggled past a proxy by Transfer-Encoding (CVE-2024-1135)",
        "22.0 or newer",
    ),
    Known(
        "gunicorn",
        "<23.0",
        "requests can be smuggled past a proxy by Transfer-Encoding (CVE-2024-6827)",
        "23.0 or newer",
    ),
    Known(
        "gevent",
        "<23.9.0",
        "its own WSGI server takes forged request trailers (CVE-2023-41419)",
        "23.9.0 or newer",
    ),
    Known(
        "python-socketio",
        "<5.14.0",
        "whoever can write to the message queue can run code in every worker (CVE-2025-61765)",
        "5.14.0 or newer",
    ),
    Known(
        "pyramid",
        ">=2.0,<2.0.2",
        "a static view may show an index.html from the folder above its own (CVE-2023-40587)",
        "2.0.2 or newer",
    ),
)

#: Programs: the command that tells the version, and the faults. Distributions mend faults without
#: a new number, so these are for a look at their changelog.
PROGRAMS: dict[str, tuple[tuple[str, ...], tuple[Known, ...]]] = {
    "nginx": (
        ("-v",),
        (
            Known(
                "nginx",
                ">=0.6.18,<1.20.1",
                "with `resolver` an answer can overwrite memory (CVE-2021-23017)",
                "1.20.1 or newer",
            ),
        ),
    ),
    "haproxy": (
        ("-v",),
        (
            Known(
                "haproxy",
                "<2.0.31,>=2.0 || <2.2.29,>=2.1 || <2.4.22,>=2.3 || <2.5.12,>=2.5 || "
                "<2.6.9,>=2.6 || <2.7.3,>=2.7",
                "requests can be smuggled by an empty header name (CVE-2023-25725)",
                "the newest of its series",
            ),
        ),
    ),
}


def requirements(subject: Subject) -> Iterator[Finding]:
    """What is installed is what this package asks for and was tested with."""
    for text in metadata.requires(DISTRIBUTION) or ():
        required = Requirement(text)
        if required.marker is not None and not required.marker.evaluate({"extra": ""}):
            continue
        try:
            installed = metadata.version(required.name)
        except metadata.PackageNotFoundError:
            installed = ""
        if not installed or not required.specifier.contains(installed, prereleases=True):
            yield fault(
                required.name,
                f"{required.name} {installed or 'is not'} installed, {required} is asked for",
                "the package was not tested with it, and may fail in ways that nobody has seen",
                f"pip install '{required}'",
            )


def known_faults(subject: Subject) -> Iterator[Finding]:
    """No version with a known fault runs."""
    for known in PACKAGES:
        try:
            installed = metadata.version(known.name)
        except metadata.PackageNotFoundError:
            continue
        if has_fault(known, installed):
            mend = f"pip install --upgrade {known.name}: {known.mend}"
            yield fault(known.name, f"{known.name} {installed} is installed", known.why, mend)
    for program, (arguments, faults) in PROGRAMS.items():
        installed = _version_of(program, arguments)
        for known in faults:
            if installed and has_fault(known, installed):
                yield warning(
                    program,
                    f"{program} {installed} is on this machine",
                    known.why,
                    f"{known.mend}, unless the distribution's changelog says that it is mended",
                )


def has_fault(known: Known, version: str) -> bool:
    """Whether a version is among the faulty ones; no where it is none that can be compared."""
    try:
        found = Version(version)
    except InvalidVersion:
        return False
    ranges = map(SpecifierSet, known.versions.split("||"))
    return any(each.contains(found, prereleases=True) for each in ranges)


def _version_of(program: str, arguments: tuple[str, ...]) -> str:
    """The version that a program on PATH tells; "" where there is none."""
    path = shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin")
    if path is None:
        return ""
    try:
        told = subprocess.run(
            [path, *arguments], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    found = re.search(r"(\d+\.\d+\.\d+)", told.stdout + told.stderr)
    return found[1] if found else ""


def python(subject: Subject) -> Iterator[Finding]:
    """The interpreter is one that this package was tested with."""
    prefix = "Programming Language :: Python :: 3."
    classifiers = metadata.metadata(DISTRIBUTION).get_all("Classifier") or []
    tested = ["3." + each.removeprefix(prefix) for each in classifiers if each.startswith(prefix)]
    series = ".".join(platform.python_version_tuple()[:2])
    if series not in tested:
        yield warning(
            "python",
            f"Python {platform.python_version()} runs",
            f"the package is tested with {', '.join(tested)}",
            f"take Python {tested[-1]}",
        )
