"""What `OpsMiddleware` adds to a request, in CPU: python -m benchmarks.ops.middleware

The same application is called with and without it in alternating rounds of one
process; the figure is the median of the rounds' differences. Writes
benchmarks/results/ops.json.
"""

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nti.appserver.ops import OpsMiddleware
from nti.appserver.ops.exposition import collect, text
from nti.appserver.ops.logs import masked
from nti.appserver.settings import Settings

ROUNDS = 15
CALLS = 100_000

HEADERS = [("Content-Type", "text/plain"), ("Content-Length", "5")]
ENVIRON = {"PATH_INFO": "/page", "REQUEST_METHOD": "GET", "REMOTE_ADDR": "192.0.2.1"}
ACCESS_LINE = (
    '192.0.2.1 - - [01/Mar/2026:12:00:00 +0000] "GET /page?q=word HTTP/1.1" 200 5 "-" "Mozilla/5.0"'
)


def bare(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """The application."""
    start_response("200 OK", HEADERS)
    return [b"hello"]


def start_response(status: str, headers: Any, exc_info: Any = None) -> None:
    """The server's part, which does nothing."""


def microseconds(call: Callable[[], object], calls: int = CALLS) -> float:
    """CPU per call."""
    began = time.process_time()
    for _ in range(calls):
        call()
    return (time.process_time() - began) / calls * 1e6


def main() -> None:
    """Measure, print and write."""
    wrapped = OpsMiddleware(bare, Settings())
    differences = []
    for _ in range(ROUNDS):
        without = microseconds(lambda: bare(ENVIRON, start_response))
        differences.append(microseconds(lambda: wrapped(ENVIRON, start_response)) - without)
    found = {
        "middleware_us": round(statistics.median(differences), 2),
        "masking_an_access_line_us": round(microseconds(lambda: masked(ACCESS_LINE)), 2),
        "record_of_all_instruments_us": round(microseconds(lambda: text(collect()), 2000), 1),
        "rounds": ROUNDS,
    }
    print(json.dumps(found, indent=2))
    path = Path(__file__).parents[1] / "results" / "ops.json"
    path.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
