"""A folder with small applications in it, and servers that are started there."""

import os
import re
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from nti.appserver.testing.process import GunicornProcess

#: Answers with what its process and its greenlet know.
SITE = """
import json, os, sys
BEFORE = sorted(sys.modules)
import gevent.monkey
PATCHED = gevent.monkey.is_module_patched("socket")
IMPORTED_IN = os.getpid()
import transaction

def app(environ, start_response):
    query = environ["QUERY_STRING"]
    if query.startswith("sleep="):
        gevent.sleep(float(query[6:]))
    if query.startswith("until="):
        open("waits", "w").close()
        while not os.path.exists(query[6:]):
            gevent.sleep(0.02)
    body = json.dumps({
        "version": 1, "pid": os.getpid(), "imported_in": IMPORTED_IN, "patched": PATCHED,
        "manager": id(transaction.manager.manager), "ppid": os.getppid(),
    }).encode()
    start_response("200 OK", [("Content-Type", "application/json"),
                              ("Content-Length", str(len(body)))])
    return [body]
"""

Serve = Callable[..., GunicornProcess]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the module `mysite`; the server's working directory."""
    (tmp_path / "mysite.py").write_text(SITE)
    return tmp_path


@pytest.fixture
def serve(folder: Path) -> Iterator[Serve]:
    """Starts gunicorn in the folder; `settings` go into its environment. Ended with the test."""
    with ExitStack() as stack:

        def start(
            *options: str,
            app: str = "nti.appserver.gunicorn:app",
            environ: dict[str, str] | None = None,
            **settings: str,
        ) -> GunicornProcess:
            given = {"application": "mysite:app", "storage": "none", **settings}
            names = {f"NTI_APPSERVER_{name.upper()}": value for name, value in given.items()}
            server = GunicornProcess(
                app, *options, cwd=folder, environ={**names, **(environ or {})}
            )
            return stack.enter_context(server)

        yield start


def fetch(server: GunicornProcess, query: str = "") -> Any:
    """What `SITE` answers."""
    import json

    with urllib.request.urlopen(f"{server.url}/?{query}", timeout=30) as answer:
        return json.load(answer)


def break_site(folder: Path) -> None:
    """Leave the module `mysite` with a syntax error."""
    (folder / "mysite.py").write_text(SITE + "\nthis does not parse (\n")
    _age(folder)


def mend_site(folder: Path, version: int) -> None:
    """The module `mysite`, in a new version."""
    (folder / "mysite.py").write_text(SITE.replace('"version": 1', f'"version": {version}'))
    _age(folder)


def _age(folder: Path) -> None:
    """Keep Python from taking the compiled module of the same second for the new one."""
    for compiled in (folder / "__pycache__").glob("mysite.*"):
        os.unlink(compiled)


def workers_booted(server: GunicornProcess) -> list[int]:
    """The process ids of the workers so far, in the order of their start."""
    return [int(pid) for pid in re.findall(r"Booting worker with pid: (\d+)", server.output())]
