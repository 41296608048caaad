"""What the worker tells the HTTP server about the rooms above it.

Only the record of callables lives here. The server calls them on the hub, so
none may switch.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from nti.appserver.http.sharing import Alone, Neighbours


def _never(path: str) -> bool:
    return False


@dataclass(frozen=True)
class Hooks:
    """Decisions that belong to other rooms.

    :param is_health: whether a request for this path is answered even when every
        slot is taken. It sees the path as sent, without the query.
    :param drain_reason: why the worker stops, "restart" or "shutdown".
    :param may_leave: told that the worker has had max_requests; whether it ends
        now. Else it serves on, and asks again a little later.
    :param neighbours: the workers that accept from the same sockets.
    :param first: whether it is for this worker to report what holds for all of the site's.
    """

    is_health: Callable[[str], bool] = _never
    drain_reason: Callable[[], str] = lambda: "shutdown"
    may_leave: Callable[[], bool] = lambda: True
    neighbours: Neighbours = field(default_factory=Alone)
    first: bool = True
