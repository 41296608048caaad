"""What a storage's failure means for the unit of work that met it.

Nothing here waits.
"""

from collections.abc import Iterator
from types import TracebackType

from ZEO.Exceptions import ClientDisconnected
from ZODB.POSException import StorageError

from nti.appserver.errors import ServiceUnavailable

#: Drivers of databases raise these when there is no connection, by their names in PEP 249, and
#: RelStorage the last one when another process keeps the lock of commits.
LOST = frozenset(("OperationalError", "InterfaceError", "UnableToAcquireLockError"))


class CommitInDoubt(ServiceUnavailable, StorageError):  # type: ignore[misc]
    """The storage went away while it finished a commit: it may have been made, or not.

    Not a TransientError: to run the unit of work again could do its work twice.
    """

    def __init__(self, reason: str) -> None:
        super().__init__("The storage went away; whether the change was made is not known.")
        #: What became of the connection, for the log.
        self.reason = reason


def away(problem: BaseException) -> ServiceUnavailable | None:
    """What to answer when a storage lost its server; None for anything else.

    RelStorage lets its driver's errors through. Those that an application meets
    with a database of its own have passed no code of RelStorage.
    """
    of_zeo = isinstance(problem, ClientDisconnected)
    if not of_zeo and not LOST & {cls.__name__ for cls in type(problem).__mro__}:
        return None
    passed = list(_passed(problem.__traceback__))
    if not of_zeo and not any(module.startswith("relstorage.") for module, _ in passed):
        return None
    if any(function == "tpc_finish" for _, function in passed):
        return CommitInDoubt(str(problem))
    return ServiceUnavailable("The storage is away.", retry_after=1)


def _passed(trace: TracebackType | None) -> Iterator[tuple[str, str]]:
    """Module and function of each frame that an exception has passed."""
    while trace is not None:
        frame = trace.tb_frame
        yield str(frame.f_globals.get("__name__", "")), frame.f_code.co_name
        trace = trace.tb_next
