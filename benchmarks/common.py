"""CPU of a server's process tree, and ratios of rounds that alternate with a peer's.

Load comes from wrk. CPU per request is what is compared: on a busy machine it
says more than requests per second.
"""

import os
import re
import statistics
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")


def cpu_seconds(group: int) -> float:
    """CPU used so far by all processes of a process group, those that have ended included."""
    total = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text("utf-8", "replace").rpartition(")")[2].split()
        except OSError:
            continue  # it ended meanwhile
        if int(fields[2]) == group:
            total += sum(map(int, fields[11:15]))
    return total / TICK


def private_bytes(group: int) -> int:
    """Memory that only the processes of a process group have, each its own."""
    total = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(stat.read_text("utf-8", "replace").rpartition(")")[2].split()[2]) == group:
                lines = stat.with_name("smaps_rollup").read_text("ascii").splitlines()
                total += sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))
        except OSError:
            continue  # it ended meanwhile
    return total * 1024


def load(url: str, connections: int, seconds: int, script: Path | None = None, *fields: str) -> int:
    """Have wrk send requests; how many were answered.

    :raises RuntimeError: one was not answered, or with an error status.
    """
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s"]
    command += [] if script is None else ["-s", str(script)]
    for field in fields:
        command += ["-H", field]
    run = subprocess.run([*command, url], check=True, capture_output=True, text=True)
    errors = re.search(r"(Socket errors|Non-2xx).*", run.stdout)
    if errors is not None:
        raise RuntimeError(f"wrk: {errors[0]}")
    found = re.search(r"(\d+) requests in", run.stdout)
    if found is None or not int(found[1]):
        raise RuntimeError(f"wrk: no requests: {run.stdout}")
    return int(found[1])


def per_request(
    groups: Sequence[int], send: Callable[[], int], *, least: float = 0.2, most: int = 2
) -> list[float]:
    """CPU seconds per request of each process group.

    :param send: sends requests for a while, and returns how many were answered.
    :param least: it is called again until the first group has used so much CPU; a clock's tick
        is a hundredth of a second.
    :param most: but not more often.
    """
    before = [cpu_seconds(group) for group in groups]
    count = 0
    for _ in range(most):
        count += send()
        used = [cpu_seconds(group) - earlier for group, earlier in zip(groups, before, strict=True)]
        if used[0] >= least:
            break
    return [each / count for each in used]


def summary(ours: list[float], theirs: list[float]) -> dict[str, float | int]:
    """Medians of microseconds per request, and of the ratios of rounds that ran side by side."""
    ratios = [mine / their for mine, their in zip(ours, theirs, strict=True)]
    return {
        "ours_us": round(statistics.median(ours) * 1e6, 1),
        "theirs_us": round(statistics.median(theirs) * 1e6, 1),
        "ratio": round(statistics.median(ratios), 3),
        "ratio_lowest": round(min(ratios), 3),
        "ratio_highest": round(max(ratios), 3),
        "rounds": len(ratios),
    }
