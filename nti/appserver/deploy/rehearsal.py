"""`python -m nti.appserver.deploy.rehearsal FILE`: load as a new worker would, and end.

A process of its own: gunicorn reads its configuration, the process is patched
like a worker's, the application is imported. The storage is not opened: the
site that runs may hold it.
"""

import os
import sys
from typing import Any

from gunicorn.app.base import Application

from nti.appserver.errors import ConfigurationError

OURS = "nti.appserver.gunicorn:app"


class Rehearsal(Application):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn's reading of its configuration, with nothing started afterwards."""

    def init(self, parser: Any, opts: Any, args: Any) -> None:
        return None

    def load(self) -> None:
        return None


def main(config: str) -> int:
    """Read gunicorn's configuration at the path `config` and import what it serves.

    :return: the exit status, 1 for a mistake of the operator. gunicorn ends the
        process itself where its file is wrong; an error inside of the application
        comes through with its traceback.
    """
    sys.argv = ["gunicorn", "--config", config]
    gunicorn = Rehearsal().cfg
    os.environ.update(gunicorn.env)
    from gevent import monkey

    monkey.patch_all()
    from nti.appserver.application.resolve import named
    from nti.appserver.settings import load_settings

    try:
        if gunicorn.wsgi_app and gunicorn.wsgi_app != OURS:
            named(gunicorn.wsgi_app, "wsgi_app of gunicorn")
        else:
            named(load_settings(environ=os.environ).application, "application")
    except ConfigurationError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
