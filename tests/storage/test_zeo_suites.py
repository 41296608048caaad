"""ZEO's own tests pass with our client, in a patched process, as they do with ZEO's."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

MINUTES = 20

#: Tests of ZEO that cannot pass in a patched process, each with the reason.
EXCEPTIONS: Mapping[str, str] = {
    "client_asyncore_thread_has_name (ZEO.tests.testZEO)": "looks for the I/O thread in "
    "threading.enumerate(), and the patched `threading` knows greenlets alone",
}


def outcomes(way: str, module: str, folder: Path) -> dict[str, dict[str, str]]:
    """What became of each test of a module; of those alone that ended in time."""
    results = folder / f"{way}.jsonl"
    home = folder / way
    home.mkdir()
    command = [sys.executable, "-m", "tests.storage.zeo_suites", way, str(results), module]
    with (
        open(folder / f"{way}.log", "wb") as log,
        subprocess.Popen(
            command,
            cwd=home,
            env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "TMPDIR": str(home)},
            stdout=log,
            stderr=log,
        ) as process,
    ):
        try:
            process.wait(MINUTES * 60)
        except subprocess.TimeoutExpired:
            process.kill()
    found = (json.loads(line) for line in results.read_text("utf-8").splitlines())
    return {each["name"]: each for each in found}


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.parametrize(
    ("module", "at_least"), [("ZEO.asyncio.tests", 100), ("ZEO.tests.testZEO", 400)]
)
def test_what_passes_with_zeos_client_passes_with_ours(
    tmp_path: Path, module: str, at_least: int
) -> None:
    stock, ours = (outcomes(way, module, tmp_path) for way in ("stock", "ours"))
    expected = {name for name, each in stock.items() if each["outcome"] == "passed"}
    assert len(expected) >= at_least
    missing = {
        name: ours.get(name, {}).get("why", "it did not end")
        for name in sorted(expected)
        if ours.get(name, {}).get("outcome") != "passed" and name not in EXCEPTIONS
    }
    assert not missing, "\n".join(f"{name}: {why}" for name, why in missing.items())
    assert not EXCEPTIONS.keys() - stock.keys(), "an exception names a test that there is not"
