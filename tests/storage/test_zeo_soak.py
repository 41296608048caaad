"""A thousand greenlets that count while the ZEO server is killed and started again and again.

ZEO_SOAK_SECONDS says for how long: 60 when not given.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from nti.appserver.testing.zeo import ZEOServer

pytestmark = pytest.mark.soak

ROOT = Path(__file__).parents[2]
SECONDS = float(os.environ.get("ZEO_SOAK_SECONDS", "60"))
GREENLETS = 1000

#: A server lives for so many seconds, and is away for so many.
LIFE, AWAY = 12.0, 2.0

#: Whoever has done nothing for so long is stuck.
STUCK_SECONDS = 120.0


def count_over_restarts(server: ZEOServer, seconds: float) -> dict[str, Any]:
    """Have the crowd count for so long; what it tells."""
    command = [sys.executable, "-m", "tests.storage.crowd", server.uri, str(seconds)]
    restarts = 0
    with subprocess.Popen(
        [*command, str(GREENLETS), str(STUCK_SECONDS)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as crowd:
        try:
            ends = time.monotonic() + seconds
            while time.monotonic() < ends - LIFE and crowd.poll() is None:
                time.sleep(LIFE)
                server.kill()
                restarts += 1
                time.sleep(AWAY)
                server.start()
            printed, _ = crowd.communicate(timeout=seconds + 4 * STUCK_SECONDS)
        finally:
            crowd.kill()
    found: dict[str, Any] = json.loads(printed)
    return {**found, "restarts": restarts}


def grown(samples: list[int]) -> float:
    """How much more there is in the last quarter than in the one before: 1.0 is level."""
    quarter = len(samples) // 4
    return statistics.median(samples[-quarter:]) / statistics.median(
        samples[-2 * quarter : -quarter]
    )


def test_nothing_is_lost_or_stuck_and_nothing_grows(tmp_path: Path) -> None:
    with ZEOServer(tmp_path) as server:
        found = count_over_restarts(server, SECONDS)
    memory, descriptors = grown(found.pop("memory")), grown(found.pop("descriptors"))
    print(json.dumps({**found, "memory grown": memory, "descriptors grown": descriptors}))
    assert found["restarts"] > 1
    assert found["conflicts"] > 0
    assert found["counted"] == found["own"], "the counter is off"
    assert found["both"] == found["shared"], "a commit was made in part"
    assert found["counted"] > 100
    assert found["reads"] > GREENLETS
    assert not found["errors"]
    assert not found["not ended"]
    assert found["longest without progress"] < STUCK_SECONDS
    assert found["locks watched"] > 10
    assert not found["violations"], found["violations"][0]
    assert memory < 1.15
    assert descriptors < 1.05
