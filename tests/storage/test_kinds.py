"""The same tests on each kind of storage, in a patched process of its own."""

import ast
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from nti.appserver.testing.postgresql import PostgreSQL
from nti.appserver.testing.zeo import ZEOServer


def _postgresql(stack: ExitStack, folder: Path) -> str:
    return stack.enter_context(PostgreSQL()).zodburi()


def _zeo(stack: ExitStack, folder: Path) -> str:
    return stack.enter_context(ZEOServer(folder / "zeo")).uri


KINDS: dict[str, Callable[[ExitStack, Path], str]] = {
    "file": lambda stack, folder: f"file://{folder}/Data.fs",
    "memory": lambda stack, folder: "memory://",
    "demo": lambda stack, folder: (
        f"demo:(file://{folder}/Base.fs)"
        f"/(file://{folder}/Changes.fs?blobstorage_dir={folder}/blobs)"
    ),
    "embedded": lambda stack, folder: "embedded",
    "zeo": _zeo,
    "postgresql": _postgresql,
    "sqlite": lambda stack, folder: f"sqlite://{folder}/sqlite",
}

PROGRAM = Path(__file__).with_name("kinds.py")

CHECKS = [
    node.name
    for node in ast.parse(PROGRAM.read_text()).body
    if isinstance(node, ast.FunctionDef) and node.decorator_list
]


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(kind, marks=[pytest.mark.postgresql] if kind == "postgresql" else [])
        for kind in KINDS
    ],
)
def outcomes(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """What the program of checks says of one kind."""
    folder = tmp_path_factory.mktemp("kind")
    with ExitStack() as stack:
        uri = KINDS[request.param](stack, folder)
        done = subprocess.run(
            [sys.executable, "-m", "tests.storage.kinds", uri, str(folder / "var")],
            capture_output=True,
            text=True,
            timeout=180,
            cwd=PROGRAM.parents[2],
        )
        assert done.returncode == 0, done.stdout + done.stderr
        yield json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("check", CHECKS)
def test_a_storage(outcomes: dict[str, str], check: str) -> None:
    assert outcomes[check] == "ok", outcomes[check]
