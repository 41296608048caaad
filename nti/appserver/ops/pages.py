"""The pages under `/_ops/`: ping, ready and metrics.

Each runs in its request's greenlet. `ping` and `ready` must answer when the
site is in trouble: they wait for nothing. Whoever may not ask gets a 404, as
if there were nothing here.
"""

import json
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from nti.appserver import health
from nti.appserver.errors import HTTPFault
from nti.appserver.ops import housekeeping
from nti.appserver.ops.access import may_ask, networks
from nti.appserver.ops.exposition import CONTENT_TYPE, collect, text
from nti.appserver.settings import Settings, load_settings

StartResponse = Callable[..., Any]
Answer = tuple[str, str, str]

TEXT = "text/plain; charset=utf-8"
JSON = "application/json"


class Pages:
    """A WSGI application for `/_ops/`.

    :param settings: those of the environment when not given.
    :raises ConfigurationError: `ops_allow` names what is no network.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings if settings is not None else load_settings(environ=os.environ)
        self._allowed = networks(self.settings.ops_allow)
        self._pages = {"/_ops/ping": _ping, "/_ops/ready": _ready, "/_ops/metrics": _metrics}

    def __call__(
        self, environ: Mapping[str, Any], start_response: StartResponse
    ) -> Iterable[bytes]:
        page = self._pages.get(environ["PATH_INFO"])
        if page is None or not may_ask(environ, self._allowed):
            status, kind, body = "404 Not Found", TEXT, "Not Found\n"
        elif environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            status, kind, body = "405 Method Not Allowed", TEXT, "GET and HEAD only\n"
        else:
            status, kind, body = page()
        content = body.encode()
        headers = [
            ("Content-Type", kind),
            ("Content-Length", str(len(content))),
            ("Cache-Control", "no-store"),
        ]
        if status.startswith("405"):
            headers.append(("Allow", "GET, HEAD"))
        start_response(status, headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [content]


def _ping() -> Answer:
    """The process answers; nothing else is asked."""
    return "200 OK", TEXT, "pong\n"


def _ready() -> Answer:
    """Whether new work should come to this worker; the reasons why not."""
    problems = health.problems()
    body = json.dumps({"ready": not problems, "problems": problems}) + "\n"
    return ("503 Service Unavailable" if problems else "200 OK"), JSON, body


def _metrics() -> Answer:
    """Every instrument, over all workers where they share a folder."""
    current = housekeeping.current()
    if current is None:
        return "200 OK", CONTENT_TYPE, text(collect())
    try:
        return "200 OK", CONTENT_TYPE, text(current.families())
    except HTTPFault as fault:
        return fault.status_line, TEXT, f"{fault.detail}\n"
    except OSError as error:  # out of descriptors, say: what one worker knows would be a step back
        reason = f"the workers' records cannot be read: {error.strerror}\n"
        return "503 Service Unavailable", TEXT, reason
