"""The Autobahn testsuite against the WebSockets of this package, on its own worker.

It needs Python 2.7: make a virtualenv of that, `pip install autobahntestsuite`
into it, and put its `bin` on PATH or its `wstest` into the variable WSTEST.
The last results stand in docs/reference/websocket.rst.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from nti.appserver.testing.process import GunicornProcess

ROOT = Path(__file__).parents[2]
WSTEST = os.environ.get("WSTEST") or shutil.which("wstest")

#: Everything but the long runs of sections 12 and 13, of which each kind is there once.
CASES = [
    *(f"{section}.*" for section in (*range(1, 8), 9, 10)),
    *("12.1.*", "12.2.1", "12.3.1", "12.4.1", "12.5.1"),
    *(f"13.{number}.1" for number in range(1, 8)),
]
MAX_SECONDS = 900

pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(WSTEST is None, reason="no wstest; this file says how to get it"),
]


def test_autobahn(tmp_path: Path) -> None:
    options = {
        "NTI_APPSERVER_WEBSOCKET_DEFLATE": "1",
        "NTI_APPSERVER_WEBSOCKET_MESSAGE_SIZE": "32m",
        "NTI_APPSERVER_WEBSOCKET_QUEUE_SIZE": "64m",
    }
    with GunicornProcess(
        "tests.websocket.apps:echo_only", "--pythonpath", str(ROOT), cwd=tmp_path, environ=options
    ) as server:
        server.wait_until_serving()
        spec = {
            "outdir": str(tmp_path / "reports"),
            "servers": [{"agent": "server", "url": f"ws://127.0.0.1:{server.port}"}],
            "cases": CASES,
            "exclude-cases": [],
            "exclude-agent-cases": {},
        }
        (tmp_path / "spec.json").write_text(json.dumps(spec))
        command = [str(WSTEST), "-m", "fuzzingclient", "-s", "spec.json"]
        subprocess.run(
            command, cwd=tmp_path, check=True, timeout=MAX_SECONDS, stdout=subprocess.DEVNULL
        )
    results = json.loads((tmp_path / "reports" / "index.json").read_text())["server"]
    worse = {
        case: (result["behavior"], result["behaviorClose"])
        for case, result in results.items()
        if not {result["behavior"], result["behaviorClose"]} <= {"OK", "INFORMATIONAL"}
    }
    assert len(results) >= 300
    assert not worse
