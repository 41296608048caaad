"""Units of work against the usual packages: python -m benchmarks.transactions.units

Real servers on loopback, each with a FileStorage of its own, measured in
alternating rounds; a figure is the median of the rounds' ratios. Writes
benchmarks/results/transactions.json and docs/benchmarks/transactions.svg.
"""

import json
import os
import random
import statistics
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from benchmarks.transactions.apps import OBJECTS
from benchmarks.transactions.serving import STOCK, Load, Served, drive, environment, prefer

ROOT = Path(__file__).parents[2]
ROUNDS = 7

#: Of each of eight clients in a round: so many that a clock's tick, a hundredth of a second of
#: CPU, is less than a microsecond of a request.
READS = 2000

Figures = dict[str, Any]


def reading() -> Figures:
    """CPU per request of a view that reads one object, and of one that touches nothing.

    What a unit of work costs itself is what the same view costs more than without one.
    """
    rounds = []
    with Served("ours") as ours, Served("usual", STOCK) as usual, Served("bare") as bare:
        for number in range(ROUNDS + 1):
            found = {
                "ours": drive(ours, [["/read"] * READS] * 8).cpu_us,
                "usual": drive(usual, [["/read"] * (READS // 4)] * 8).cpu_us,
                "bare": drive(bare, [["/read"] * READS] * 8).cpu_us,
                "no object": drive(ours, [["/hello"] * READS] * 8).cpu_us,
                "bare, no object": drive(bare, [["/hello"] * READS] * 8).cpu_us,
            }
            rounds += [found] * bool(number)  # the first one warms up
    return {
        "cpu_us": _medians(rounds),
        **_ratio([each["ours"] / each["usual"] for each in rounds]),
        "own_cost_us": _median(each["ours"] - each["bare"] for each in rounds),
        "own_cost_without_an_object_us": _median(
            each["no object"] - each["bare, no object"] for each in rounds
        ),
    }


def writing() -> Figures:
    """Commits a second of a view that writes one of many objects, 32 clients."""
    random.seed(1)

    def paths() -> list[list[str]]:
        return [[f"/write/{random.randrange(OBJECTS)}" for _ in range(20)] for _ in range(32)]

    with Served("ours") as ours, Served("usual", "gthread", "--threads=32") as usual:
        rounds = _alternate(
            lambda: drive(ours, paths(), "POST"), lambda: drive(usual, paths(), "POST")
        )
    return _rates(rounds)


def contending() -> Figures:
    """Useful commits a second when 100 clients increment one counter at the same time."""
    paths = [["/contend"] * 4] * 100
    with Served("ours") as ours, Served("usual", STOCK) as usual:
        rounds = _alternate(lambda: drive(ours, paths, "POST"), lambda: drive(usual, paths, "POST"))
        found = _rates(rounds)
        for name, served in (("ours", ours), ("usual", usual)):
            found[f"lost_{name}"] = _acknowledged(rounds, name) - _counted(served)
    return found


def _alternate(ours: Callable[[], Load], usual: Callable[[], Load]) -> list[dict[str, Load]]:
    rounds = []
    for number in range(ROUNDS):
        pair = [("ours", ours), ("usual", usual)]
        rounds.append({name: call() for name, call in (pair if number % 2 else pair[::-1])})
    return rounds


def _rates(rounds: list[dict[str, Load]]) -> Figures:
    return {
        "commits_per_second": _medians(
            [{name: load.rate for name, load in each.items()} for each in rounds]
        ),
        **_ratio([each["ours"].rate / each["usual"].rate for each in rounds]),
        "cpu_us_per_request": _medians(
            [{name: load.cpu_us for name, load in each.items()} for each in rounds]
        ),
        "refused": {name: sum(each[name].bad for each in rounds) for name in ("ours", "usual")},
    }


def meeting() -> dict[str, Figures]:
    """Visitors of the readme's counter, over the default storage and several workers."""
    found = {}
    for workers in (2, 4):
        site = Served("", "nti.appserver.gunicorn.GeventApplicationWorker", f"-w{workers}")
        with site:
            for clients in (2, 4, 8):
                load = drive(site, [["/count"] * (300 // clients)] * clients, "POST")
                found[f"{workers} workers, {clients} clients"] = {
                    "served": load.good,
                    "refused": load.bad,
                    "per_second": round(load.rate),
                }
    return found


def _ratio(ratios: list[float]) -> Figures:
    return {
        "ratio_to_usual": _median(ratios),
        "ratio_lowest": round(min(ratios), 2),
        "ratio_highest": round(max(ratios), 2),
    }


def _acknowledged(rounds: list[dict[str, Load]], name: str) -> int:
    return sum(each[name].good for each in rounds)


def _counted(served: Served) -> int:
    """What the counter says, asked of the server."""
    import urllib.request

    with urllib.request.urlopen(f"{served.process.url}/read", timeout=60) as answer:
        return int(answer.read())


def _median(values: Iterable[float]) -> float:
    return round(statistics.median(values), 2)


def _medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    return {name: _median(each[name] for each in rounds) for name in rounds[0]}


def plot(found: Figures, path: Path) -> None:
    """Draw the figures as bars, ours beside the usual ones."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "transactions"
    from matplotlib import pyplot as plt

    panels = [
        ("Reading one object\nCPU per request, µs", found["reading"]["cpu_us"]),
        ("Writing one object\ncommits a second", found["writing"]["commits_per_second"]),
        ("100 clients, one counter\nuseful commits a second", _useful(found)),
    ]
    figure, axes = plt.subplots(1, len(panels), figsize=(9, 3.2), layout="constrained")
    for axis, (title, values) in zip(axes, panels, strict=True):
        names = [name for name in ("ours", "usual", "bare") if name in values]
        bars = axis.bar(names, [values[name] for name in names], color=["#2b6cb0", "#a0aec0"])
        axis.bar_label(bars, fmt="%.0f", padding=2)
        axis.set_title(title, fontsize=9)
        axis.margins(y=0.15)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None})


def _useful(found: Figures) -> dict[str, float]:
    rates: dict[str, float] = found["contending"]["commits_per_second"]
    return rates


def main() -> None:
    """Measure, print and write."""
    prefer(os.getpid())
    found: Figures = {
        "reading": reading(),
        "writing": writing(),
        "contending": contending(),
        "meeting": meeting(),
        "rounds": ROUNDS,
        **environment(),
    }
    text = json.dumps(found, indent=2)
    print(text)
    (ROOT / "benchmarks" / "results" / "transactions.json").write_text(text + "\n")
    folder = ROOT / "docs" / "benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    plot(found, folder / "transactions.svg")


if __name__ == "__main__":
    main()
