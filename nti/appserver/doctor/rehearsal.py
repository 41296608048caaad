"""`python -m nti.appserver.doctor.rehearsal CONFIG REPORT [storages]`: load as a new worker would.

A process of its own: gunicorn reads its configuration, the process is patched
like a worker's, the application is imported. What was seen on the way is left
in the file REPORT as JSON, also where loading fails. The storage is opened only
when asked for and where that takes nothing from the site that runs.
"""

import json
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from gunicorn.app.base import Application

from nti.appserver.errors import ConfigurationError
from nti.appserver.worker.imports import unsafe_modules

OURS = "nti.appserver.gunicorn:app"

#: Settings of gunicorn that the checks look at.
TOLD = (
    "backlog",
    "certfile",
    "forwarded_allow_ips",
    "graceful_timeout",
    "keyfile",
    "preload_app",
    "umask",
    "worker_connections",
    "workers",
    "wsgi_app",
)


class Rehearsal(Application):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn's reading of its configuration, with nothing started afterwards."""

    def init(self, parser: Any, opts: Any, args: Any) -> None:
        return None

    def load(self) -> None:
        return None


def main(config: str, report: Path, *, storages: bool) -> int:
    """Read gunicorn's configuration at the path `config` and import what it serves.

    :return: the exit status, 1 for a mistake of the operator. gunicorn ends the
        process itself where its file is wrong; an error inside of the application
        comes through with its traceback.
    """
    sys.argv = ["gunicorn", *(["--config", config] if config else [])]
    gunicorn = Rehearsal().cfg
    os.environ.update(gunicorn.env)
    found: dict[str, Any] = {"gunicorn": _told(gunicorn)}
    try:
        return _load(gunicorn, found, storages=storages)
    finally:
        report.write_text(json.dumps(found))


def _told(gunicorn: Any) -> dict[str, Any]:
    values = {name: gunicorn.settings[name].get() for name in TOLD}
    values["bind"] = [
        address if isinstance(address, str) else list(address) for address in gunicorn.address
    ]
    values["worker_class"] = gunicorn.worker_class_str
    return values


def _load(gunicorn: Any, found: dict[str, Any], *, storages: bool) -> int:
    foreign = gunicorn.wsgi_app if gunicorn.wsgi_app not in (None, OURS) else ""
    if foreign and gunicorn.preload_app:
        import_module(foreign.partition(":")[0])
    found["unsafe"] = unsafe_modules()
    from gevent import monkey

    monkey.patch_all()
    from nti.appserver.application.resolve import named
    from nti.appserver.doctor.drivers import blocking_modules
    from nti.appserver.settings import load_settings
    from nti.appserver.storage import prepare_clients

    try:
        settings = load_settings(environ=os.environ)
        prepare_clients(settings)
        named(foreign or settings.application, "wsgi_app of gunicorn" if foreign else "application")
        found["blocking"] = blocking_modules()
        if storages:
            from nti.appserver.doctor.storages import examine

            found["storages"] = examine(settings)
    except ConfigurationError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), storages="storages" in sys.argv[3:]))
