"""What ZEO's client cache answers without the I/O thread is never stale: see docs, threads."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nti.appserver.testing.zeo import ZEOServer

ROOT = Path(__file__).parents[2]
SOAK_SECONDS = float(os.environ.get("ZEO_SOAK_SECONDS", "60"))

#: As in tests/storage/snapshots.py, which patches the process that imports it.
ENOUGH_READS, ENOUGH_COMMITS = 500, 20

#: Seconds that the processes may take beside their work.
SLACK_SECONDS = 150


def read_while_another_writes(server: ZEOServer, seconds: float) -> dict[str, Any]:
    program = [sys.executable, "-m", "tests.storage.snapshots"]
    with subprocess.Popen(
        [*program, "write", server.uri, str(seconds + SLACK_SECONDS)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as writer:
        try:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "filled\n"
            reader = subprocess.run(
                [*program, "read", server.uri, str(seconds)],
                stdout=subprocess.PIPE,
                check=True,
                cwd=ROOT,
                timeout=seconds + SLACK_SECONDS,
            )
            assert writer.poll() is None, "nobody else has written"
        finally:
            writer.kill()
    found: dict[str, Any] = json.loads(reader.stdout)
    return found


@pytest.mark.parametrize(
    "seconds", [4.0, pytest.param(SOAK_SECONDS, marks=pytest.mark.soak, id="soak")]
)
def test_no_read_is_stale_or_torn(tmp_path: Path, seconds: float) -> None:
    with ZEOServer(tmp_path) as server:
        found = read_while_another_writes(server, seconds)
    print(json.dumps(found))
    assert not found["faults"], found["first"]
    assert not found["violations"], found["violations"][0]
    assert found["commits"] >= ENOUGH_COMMITS
    assert found["reads"] >= ENOUGH_READS
    assert found["hits"] > found["loads"], "the cache has answered too few"
