"""What a check says, and what a check is. Nothing here waits."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from nti.appserver.doctor.subject import Subject


class Severity(StrEnum):
    """How bad it is."""

    #: Users meet it, or will: something does not work, or is open to others.
    FAULT = "fault"
    #: It works, but not well, or not for long.
    WARNING = "warning"


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    :param about: what it is about, in a word or two: a URL, a path, a module.
    :param seen: what was seen, with the values.
    :param why: what it leads to.
    :param mend: exactly what to change.
    """

    severity: Severity
    about: str
    seen: str
    why: str
    mend: str


def fault(about: str, seen: str, why: str, mend: str) -> Finding:
    """A finding that users meet."""
    return Finding(Severity.FAULT, about, seen, why, mend)


def warning(about: str, seen: str, why: str, mend: str) -> Finding:
    """A finding that users do not meet yet."""
    return Finding(Severity.WARNING, about, seen, why, mend)


@dataclass(frozen=True)
class Check:
    """A row of the table.

    :param name: for the command line and for machines.
    :param doc: what is looked at, for people.
    :param run: gives the findings.
    :param needs_url: whether it has nothing to look at without a URL.
    """

    name: str
    doc: str
    run: Callable[[Subject], Iterator[Finding]]
    needs_url: bool = False
