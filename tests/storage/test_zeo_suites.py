"""ZEO's own tests pass with our client, in a patched process, as they do with ZEO's."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

#: The two runs go on side by side, each for less than this on a busy machine.
MINUTES = 50

RUNNER = (sys.executable, "-m", "tests.storage.zeo_suites")

#: The ends of names of tests of ZEO that cannot pass in a patched process, each with the reason.
EXCEPTIONS: Mapping[str, str] = {
    "client_asyncore_thread_has_name (ZEO.tests.testZEO)": "looks for the I/O thread in "
    "threading.enumerate(), and the patched `threading` knows greenlets alone",
    "client-config.test": "reads log records while they arrive; now and then it fails with ZEO's "
    "own client too",
    "dynamic_server_ports.test": "runs ZEO's server, asyncio, in a thread of the patched process",
}


def started(way: str, module: str, folder: Path) -> subprocess.Popen[bytes]:
    """A run of a module; what becomes of its tests is in WAY.jsonl, what they print in WAY.log."""
    home = folder / way
    home.mkdir()
    results = folder / f"{way}.jsonl"
    with open(folder / f"{way}.log", "wb") as log:
        return subprocess.Popen(
            [*RUNNER, way, str(results), module, *(EXCEPTIONS if way == "ours" else ())],
            cwd=home,
            env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "TMPDIR": str(home)},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def outcomes(module: str, folder: Path) -> dict[str, dict[str, dict[str, str]]]:
    """For each way what became of each test; of those alone that ended in time."""
    deadline = time.monotonic() + MINUTES * 60
    runs = {way: started(way, module, folder) for way in ("stock", "ours")}
    found = {}
    for way, run in runs.items():
        with contextlib.suppress(subprocess.TimeoutExpired):
            run.wait(max(0.0, deadline - time.monotonic()))
        with contextlib.suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)  # servers too that a test has left behind
        run.wait()
        lines = (folder / f"{way}.jsonl").read_text("utf-8").splitlines()
        found[way] = {each["name"]: each for each in map(json.loads, lines)}
    return found


@pytest.mark.soak
@pytest.mark.parametrize(
    ("module", "at_least"), [("ZEO.asyncio.tests", 100), ("ZEO.tests.testZEO", 550)]
)
def test_what_passes_with_zeos_client_passes_with_ours(
    tmp_path: Path, module: str, at_least: int
) -> None:
    found = outcomes(module, tmp_path)
    stock, ours = found["stock"], found["ours"]
    expected = {name for name, each in stock.items() if each["outcome"] == "passed"}
    assert len(expected) >= at_least
    missing = {
        name: ours.get(name, {}).get("why", "it did not end")
        for name in sorted(expected)
        if ours.get(name, {}).get("outcome") != "passed" and not name.endswith(tuple(EXCEPTIONS))
    }
    assert not missing, "\n".join(f"{name}: {why}" for name, why in missing.items())
