"""gunicorn's post_worker_init hook of a site whose workers do not live long."""

import os
import signal
from typing import Any


def post_worker_init(worker: Any) -> None:
    """The worker's process ends as one does that ran into a fault of a C extension."""
    os.kill(os.getpid(), signal.SIGSEGV)
