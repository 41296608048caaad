"""What became of a request on its way through proxies, told to the doctor alone.

The doctor leaves a file with a random name in the site's runtime folder and
asks for that name: so only who can write there learns anything, and only for
a minute. The path lies under /socket.io/, which every proxy passes on.

Runs in the request's greenlet; nothing waits.
"""

import json
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

#: Under it are the names that the doctor has drawn.
PREFIX = "/socket.io/doctor/"

#: How long a name is answered, seconds.
VALID = 60.0

#: Headers that proxies set or should take away, as environ has them.
TOLD = (
    "HTTP_CONNECTION",
    "HTTP_FORWARDED",
    "HTTP_HOST",
    "HTTP_UPGRADE",
    "HTTP_VIA",
    "HTTP_X_FORWARDED_FOR",
    "HTTP_X_FORWARDED_HOST",
    "HTTP_X_FORWARDED_PROTO",
    "HTTP_X_FORWARDED_PROTOCOL",
    "HTTP_X_FORWARDED_SSL",
    "HTTP_X_REAL_IP",
    "HTTP_X_SCHEME",
)

_NAME = re.compile(r"[0-9a-f]{32}")


def folder_for(records: Path) -> Path:
    """Where the doctor leaves its names.

    :param records: the folder of the workers' records.
    """
    return records / "doctor"


class Echo:
    """A WSGI application for `PREFIX`.

    :param records: the folder of the workers' records.
    """

    def __init__(self, records: Path) -> None:
        self._folder = folder_for(records)

    def __call__(
        self, environ: Mapping[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        known = self._is_known(environ["PATH_INFO"].removeprefix(PREFIX))
        found = json.dumps(_told(environ)) if known else "Not Found\n"
        body = found.encode()
        headers = [
            ("Content-Type", "application/json" if known else "text/plain"),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store"),
        ]
        start_response("200 OK" if known else "404 Not Found", headers)
        return [body]

    def _is_known(self, name: str) -> bool:
        """Whether the site's user has drawn this name within the last minute."""
        if _NAME.fullmatch(name) is None:
            return False
        try:
            found = os.stat(self._folder / name)
        except OSError:
            return False
        return found.st_uid == os.geteuid() and time.time() - found.st_mtime < VALID


def _told(environ: Mapping[str, Any]) -> dict[str, Any]:
    connection = environ.get("nti.appserver.connection")
    return {
        "client": environ.get("REMOTE_ADDR", ""),
        "scheme": environ["wsgi.url_scheme"],
        "peer": connection.peer if connection is not None else environ.get("REMOTE_ADDR", ""),
        "trusted": connection is not None and connection.trusted,
        "headers": {name: environ[name] for name in TOLD if name in environ},
    }
