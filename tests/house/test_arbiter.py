"""gunicorn's arbiter imports the worker's module before any worker is patched."""

import json
import subprocess
import sys

import pytest

#: Each is wrong in a process that forks workers which patch themselves afterwards: it holds
#: locks, thread-locals or event loops made of unpatched primitives.
UNSAFE = ("ZODB", "ZEO", "transaction", "concurrent.futures", "requests", "asyncio", "pyramid")

PROBE = """
import json, sys
import gunicorn.app.wsgiapp, gunicorn.arbiter
before = set(sys.modules)
import {module}
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def imported_by(module: str) -> list[str]:
    """The modules that importing `module` adds to what gunicorn itself has imported."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE.format(module=module)],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    found: list[str] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("module", ["nti.appserver", "nti.appserver.gunicorn"])
def test_the_worker_module_pulls_in_nothing_unsafe(module: str) -> None:
    added = imported_by(module)
    assert module in added
    assert [name for name in UNSAFE if name in added] == []


def test_the_package_itself_imports_none_of_its_rooms() -> None:
    rooms = [name for name in imported_by("nti.appserver") if name.startswith("nti.appserver.")]
    assert rooms == []
