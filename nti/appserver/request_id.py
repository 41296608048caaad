"""One id for a request, from the proxy through the logs to the transaction.

The id lives in a context variable, and each greenlet has a context of its own.
One that is spawned starts with an empty context; to hand the id on, spawn
`contextvars.copy_context().run` with the function. Nothing here waits or
switches.
"""

import os
import re
from collections.abc import Mapping
from contextvars import ContextVar
from itertools import count
from typing import Any

#: Where the id is in environ.
KEY = "nti.appserver.request_id"

#: What a trusted proxy may send as X-Request-ID: nothing that could break a log line.
ACCEPTABLE = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")

#: The id of the request that this greenlet works on; '' outside of requests.
request_id_variable: ContextVar[str] = ContextVar("request_id", default="")

current_request_id = request_id_variable.get
set_request_id = request_id_variable.set


class RequestIds:
    """Makes ids that no other process makes: a random prefix and a running number.

    The prefix is drawn at the first use in each process, so that workers
    forked from one arbiter differ.
    """

    def __init__(self) -> None:
        self._renew()

    def _renew(self) -> None:
        self._prefix = os.urandom(6).hex()
        self._numbers = count(1)

    def new(self) -> str:
        """An id such as "9f86d081884c-1a": 14 characters or more, unique in practice."""
        return f"{self._prefix}-{next(self._numbers):x}"


ids = RequestIds()
os.register_at_fork(after_in_child=ids._renew)


def request_id_of(environ: Mapping[str, Any]) -> str:
    """The id that a trusted peer sent, else a new one.

    Whoever else sends one is not believed: it could make its lines look like
    another's.
    """
    sent = environ.get("HTTP_X_REQUEST_ID")
    if sent is not None and ACCEPTABLE.fullmatch(sent):
        connection = environ.get("nti.appserver.connection")
        if connection is not None and connection.trusted:
            return str(sent)
    return ids.new()
