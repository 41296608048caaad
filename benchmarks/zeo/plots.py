"""The figures as SVG in docs/benchmarks, from benchmarks/results/zeo.json.

`loads` draws them anew at its end; without measuring:
`python -c "from benchmarks.zeo.plots import draw; draw()"`.
"""

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "zeo.json"
FOLDER = ROOT / "docs" / "benchmarks"

OURS = "nti.appserver"
NAMES = {
    "ours": OURS,
    "stock": "ZEO as it comes, patched",
    "threads": "native threads",
    "mapping": "MappingStorage, no server",
}
OUR_COLOUR, THEIR_COLOUR = "#2b6cb0", "#a0aec0"


def draw() -> None:
    """Draw loads per second and CPU per load of each way."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "zeo"
    figures = json.loads(RESULTS.read_text("utf-8"))
    setups = {name: found for name, found in figures.items() if isinstance(found, dict)}
    _bars("zeo-rate", setups, "loads_per_second", "Loads per second")
    _bars("zeo-cpu", setups, "cpu_us", "CPU per load, µs")


def _bars(name: str, setups: dict[str, Any], key: str, title: str) -> None:
    """One plot of horizontal bars for each setup, each with its own scale."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(len(setups), figsize=(8, 5.6), layout="constrained")
    figure.suptitle(title, fontsize=11)
    for axis, (setup, found) in zip(axes, setups.items(), strict=True):
        values = {NAMES[way]: found[way][key] for way in NAMES if way in found}
        colours = [OUR_COLOUR if way == OURS else THEIR_COLOUR for way in values]
        bars = axis.barh(list(values), list(values.values()), color=colours)
        axis.bar_label(bars, fmt="{:,.0f}", padding=3)
        axis.invert_yaxis()
        axis.set_title(setup, fontsize=10, loc="left")
        axis.margins(x=0.12)
        axis.set_xticks([])
        axis.spines[["top", "right", "bottom"]].set_visible(False)
    FOLDER.mkdir(exist_ok=True)
    figure.savefig(FOLDER / f"{name}.svg", metadata={"Date": None})
    plt.close(figure)
