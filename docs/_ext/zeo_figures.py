"""The directive `zeo-figures`: tables made from what benchmarks/zeo has measured.

Its argument is the table: `rates`, `ratios` or `lateness`.
"""

from typing import Any

from figures import RESULTS, Figures, FiguresDirective, Row
from sphinx.application import Sphinx

WAYS = {
    "ours": "nti.appserver",
    "stock": "ZEO as it comes",
    "threads": "native threads",
    "mapping": "MappingStorage",
}


def setups(figures: Figures) -> Figures:
    return {name: found for name, found in figures.items() if isinstance(found, dict)}


def rates(figures: Figures) -> list[Row]:
    """Loads per second and CPU per load of each way."""
    rows = [["loads a second (µs of CPU per load)", *WAYS.values()]]
    for name, found in setups(figures).items():
        rows.append([name, *(_rate(found.get(way)) for way in WAYS)])
    return rows


def ratios(figures: Figures) -> list[Row]:
    """Ours against the others, and how far the rounds lay apart."""
    rows = [["ours / theirs", "median", "lowest", "highest"]]
    measures = {"loads_per_second": "rate", "cpu_us": "CPU per load", "wall_us": "time per load"}
    for name, found in setups(figures).items():
        for key, figure in found.items():
            measure, against, way = key.partition("_against_")
            if against and (measure != "wall_us" or name.startswith("1 ")):
                label = f"{name}: {measures[measure]} / {WAYS[way]}"
                spread = [f"{figure[each]:.2f}" for each in ("median", "lowest", "highest")]
                rows.append([label, *spread])
    return rows


def lateness(figures: Figures) -> list[Row]:
    """How late a timer of the hub ran meanwhile."""
    rows = [["ms late", "half of them", "99 of 100", "the latest"]]
    for name, found in setups(figures).items():
        for way in WAYS:
            if "late_p50_ms" in found.get(way, {}):
                cells = [f"{found[way][f'late_{each}_ms']:.1f}" for each in ("p50", "p99", "max")]
                rows.append([f"{name}, {WAYS[way]}", *cells])
    return rows


TABLES = {made.__name__: made for made in (rates, ratios, lateness)}


def _rate(found: Figures | None) -> str:
    if found is None:
        return ""
    return f"{found['loads_per_second']:,.0f} ({found['cpu_us']:.0f})"


class ZEOFigures(FiguresDirective):
    """One table."""

    results = RESULTS / "zeo.json"
    tables = TABLES


def setup(app: Sphinx) -> dict[str, Any]:
    """Sphinx calls this when it loads the extension."""
    app.add_directive("zeo-figures", ZEOFigures)
    return {"parallel_read_safe": True}
