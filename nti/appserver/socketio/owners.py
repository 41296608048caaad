"""Which worker a Socket.IO request belongs to: the one that its session's name begins with.

A request that opens a session belongs to none, and chance has to choose: behind
a proxy that keeps its connections, these gather at the workers with the most
sessions, and would bring them every new one.

Pure functions on the bytes of a request; nothing waits or switches.
"""

import re
import secrets

from nti.appserver.handover.names import ANY, PATTERN, Route, worker_name

#: The path's last part, without which a request is not Socket.IO's.
MARK = b"/socket.io/"

_TARGET = re.compile(rb"(?:GET|POST) [^ ?]*/socket\.io/\?([^ ]{1,4096}) HTTP/")
_SID = re.compile(rf"(?:^|&)sid=(?:({PATTERN})\.)?".encode())


def new_sid() -> str:
    """A session's name that cannot be guessed: its worker's, and 120 random bits."""
    return f"{worker_name()}.{secrets.token_urlsafe(15)}"


def owner(request: bytes) -> str:
    """The worker of the session that a request names; ANY where it opens one.

    "" where this worker is to answer: the session is its own, or the request is
    none that names or opens one.
    """
    target = _TARGET.match(request)
    if target is None:
        return ""
    sid = _SID.search(target[1])
    if sid is None:
        return ANY
    name = (sid[1] or b"").decode()
    return "" if name == worker_name() else name


ROUTE = Route(MARK, owner)
