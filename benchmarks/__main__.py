"""Run every benchmark, one after the other: python -m benchmarks [ROOM...]

A benchmark is a module of a room's folder that runs as a script. Each writes
its figures to benchmarks/results itself.
"""

import subprocess
import sys
import time
from pathlib import Path

FOLDER = Path(__file__).parent


def benchmarks(rooms: list[str]) -> list[str]:
    """The names of the modules that run as scripts, of these rooms or of all."""
    found = sorted(
        path.relative_to(FOLDER.parent).with_suffix("").parts
        for path in FOLDER.glob("*/*.py")
        if '__name__ == "__main__"' in path.read_text("utf-8")
    )
    return [".".join(parts) for parts in found if not rooms or parts[1] in rooms]


def main() -> int:
    """Run them; the number of those that failed."""
    failed = 0
    for name in benchmarks(sys.argv[1:]):
        began = time.monotonic()
        print(f"== {name}", flush=True)
        status = subprocess.run([sys.executable, "-m", name], check=False).returncode
        print(f"== {name}: status {status}, {time.monotonic() - began:.0f} s", flush=True)
        failed += status != 0
    return failed


if __name__ == "__main__":
    sys.exit(main())
