"""What a storage's failure means for the unit of work that met it.

Only exception classes and questions about exceptions live here; nothing waits.
"""

from ZEO.Exceptions import ClientDisconnected
from ZODB.POSException import StorageError


class CommitInDoubt(StorageError):  # type: ignore[misc]
    """The storage went away while it finished a commit: it may have been made, or not.

    Not a TransientError: to run the unit of work again could do its work twice.
    """


#: The storage is away; the same unit of work may succeed in a while.
UNAVAILABLE: tuple[type[Exception], ...] = (ClientDisconnected, CommitInDoubt)


def is_unavailable(error: BaseException) -> bool:
    """Whether `error` says that the storage could not be reached, so that 503 is the answer."""
    return isinstance(error, UNAVAILABLE)
