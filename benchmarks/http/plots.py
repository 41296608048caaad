"""The figures as SVG in docs/benchmarks, from benchmarks/results/http.json.

Each measurement draws them anew at its end; without measuring:
`python -c "from benchmarks.http.plots import draw; draw()"`.
"""

from typing import Any

from benchmarks.http.results import load
from benchmarks.http.servers import OURS, ROOT, STOCK

FOLDER = ROOT / "docs" / "benchmarks"
OUR_COLOUR, THEIR_COLOUR = "#2b6cb0", "#a0aec0"

HELLO = "hello, keep-alive, 64 connections"


def draw() -> None:
    """Draw what has been measured so far."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "http"
    figures = load()
    if HELLO in figures.get("serving", {}):
        costs = {kind: found["theirs_us"] for kind, found in _measured(figures["serving"][HELLO])}
        ours = next(iter(_measured(figures["serving"][HELLO])))[1]["ours_us"]
        _bars("http-cost", {OURS: ours, **costs}, "CPU per request, µs: " + HELLO)
    if "serving" in figures:
        ratios = {
            name: round(found[STOCK]["ratio"], 2) for name, found in figures["serving"].items()
        }
        _bars("http-ratio", ratios, f"CPU per request, ours / {STOCK}", every=OUR_COLOUR)
    if "memory" in figures:
        sizes = {kind: found["kib"] for kind, found in _measured(figures["memory"])}
        _bars("http-memory", sizes, "KiB for each idle connection, at 10,000")


def _measured(section: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [(name, found) for name, found in section.items() if "failed" not in found]


def _bars(name: str, values: dict[str, float], title: str, every: str = "") -> None:
    """One plot of horizontal bars, from the top."""
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(8, 0.7 + 0.34 * len(values)), layout="constrained")
    colours = [every or (OUR_COLOUR if kind.startswith(OURS) else THEIR_COLOUR) for kind in values]
    bars = axis.barh(list(values), list(values.values()), color=colours)
    axis.bar_label(bars, fmt="%g", padding=3)
    axis.invert_yaxis()
    axis.set_title(title, fontsize=10)
    axis.margins(x=0.1)
    axis.spines[["top", "right"]].set_visible(False)
    FOLDER.mkdir(exist_ok=True)
    figure.savefig(FOLDER / f"{name}.svg", metadata={"Date": None})
    plt.close(figure)
