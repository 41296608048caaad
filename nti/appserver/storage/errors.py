"""What a storage's failure means for the unit of work that met it.

Only exception classes live here; nothing waits.
"""

from ZODB.POSException import StorageError

from nti.appserver.errors import ServiceUnavailable


class CommitInDoubt(ServiceUnavailable, StorageError):  # type: ignore[misc]
    """The storage went away while it finished a commit: it may have been made, or not.

    Not a TransientError: to run the unit of work again could do its work twice.
    """

    def __init__(self, reason: str) -> None:
        super().__init__("The storage went away; whether the change was made is not known.")
        #: What became of the connection, for the log.
        self.reason = reason
