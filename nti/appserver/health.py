"""Whether this process can serve right now, as its rooms tell it.

A room registers a check under a name; `/_ops/ready` and `nti-appserver status`
ask them all. Only the registry lives here, so that every room can reach it.

A check runs in the greenlet of the one who asks. It must answer from what is
known already: it may not open connections, and waits, if at all, for a few
milliseconds.
"""

from collections.abc import Callable

#: Answers '' when all is well, else the reason in a few words, without secrets.
Check = Callable[[], str]

_checks: dict[str, Check] = {}


def register(name: str, check: Check) -> Callable[[], None]:
    """Ask `check` from now on; a second one under the same name takes its place.

    :param name: a word, such as `storage` or `bus`.
    :return: call it to be asked no more.
    """
    _checks[name] = check

    def cancel() -> None:
        if _checks.get(name) is check:
            del _checks[name]

    return cancel


def problems() -> dict[str, str]:
    """The reason of each check that does not pass, by name; empty when all do.

    A check that raises does not pass: its exception's class is the reason.
    """
    found = {}
    for name, check in list(_checks.items()):
        try:
            reason = check()
        except Exception as error:
            reason = f"the check failed with {type(error).__name__}"
        if reason:
            found[name] = reason
    return found


def names() -> tuple[str, ...]:
    """The names of all checks."""
    return tuple(_checks)
