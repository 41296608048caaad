"""What the directives of figures have in common: a table made from a file of results."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

#: What `python -m benchmarks` writes.
RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"

Row = list[str]
Figures = dict[str, Any]


class FiguresDirective(SphinxDirective):
    """One table; its argument names which. The first row and column are its heads."""

    required_arguments = 1

    results: Path
    tables: Mapping[str, Callable[[Figures], list[Row]]]

    def run(self) -> list[nodes.Node]:
        self.env.note_dependency(str(self.results))
        rows = self.tables[self.arguments[0]](json.loads(self.results.read_text("utf-8")))
        lines = [".. list-table::", "   :header-rows: 1", "   :stub-columns: 1", ""]
        for row in rows:
            marks = ["   * -", *["     -"] * (len(row) - 1)]
            lines += [f"{mark} {cell}".rstrip() for mark, cell in zip(marks, row, strict=True)]
        container = nodes.container()
        self.state.nested_parse(StringList(lines, source=str(self.results)), 0, container)
        return list(container.children)
