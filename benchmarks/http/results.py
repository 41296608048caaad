"""Where the figures of this room are kept: benchmarks/results/http.json.

Each measurement puts its own section in, and says anew on what machine and
with which versions the whole was measured.
"""

import json
import os
import platform
from typing import Any

from benchmarks.http.servers import ROOT, versions

PATH = ROOT / "benchmarks" / "results" / "http.json"

Figures = dict[str, Any]


def load() -> Figures:
    """What has been measured so far."""
    return json.loads(PATH.read_text("utf-8")) if PATH.exists() else {}  # type: ignore[no-any-return]


def save(section: str, found: Figures) -> None:
    """Put figures into a section; those of other names in it stay."""
    figures = load()
    figures[section] = {**figures.get(section, {}), **found}
    figures["machine"] = machine()
    figures["versions"] = versions()
    PATH.write_text(json.dumps(figures, indent=2) + "\n", "utf-8")


def machine() -> dict[str, Any]:
    """Where it is measured."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def _processor() -> str:
    with open("/proc/cpuinfo", encoding="utf-8") as lines:
        for line in lines:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()
