"""The directive `zeo-figures`: tables made from what benchmarks/zeo has measured.

Its argument is the table: `rates`, `ratios` or `lateness`.
"""

import json
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "zeo.json"

WAYS = {
    "ours": "nti.appserver",
    "stock": "ZEO as it comes",
    "threads": "native threads",
    "mapping": "MappingStorage",
}

Row = list[str]
Figures = dict[str, Any]


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


class ZEOFigures(SphinxDirective):
    """One table."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        self.env.note_dependency(str(RESULTS))
        rows = TABLES[self.arguments[0]](json.loads(RESULTS.read_text("utf-8")))
        lines = [".. list-table::", "   :header-rows: 1", "   :stub-columns: 1", ""]
        for row in rows:
            marks = ["   * -", *["     -"] * (len(row) - 1)]
            lines += [f"{mark} {cell}".rstrip() for mark, cell in zip(marks, row, strict=True)]
        container = nodes.container()
        self.state.nested_parse(StringList(lines, source=str(RESULTS)), 0, container)
        return list(container.children)


def setup(app: Sphinx) -> dict[str, Any]:
    """Sphinx calls this when it loads the extension."""
    app.add_directive("zeo-figures", ZEOFigures)
    return {"parallel_read_safe": True}
