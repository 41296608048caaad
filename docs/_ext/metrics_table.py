"""The directive `metrics-table`: every instrument that the package's modules define."""

import importlib
import pkgutil
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import nti.appserver
from nti.appserver.metrics import instruments

#: Modules that do something when they are imported.
APART = ("nti.appserver.testing",)


def import_all() -> None:
    """Import the package's modules: each defines its instruments at its top."""
    for found in pkgutil.walk_packages(nti.appserver.__path__, "nti.appserver."):
        if not found.name.startswith(APART):
            importlib.import_module(found.name)


class MetricsTable(SphinxDirective):
    """A list of name, kind, labels and meaning."""

    has_content = False

    def run(self) -> list[nodes.Node]:
        import_all()
        lines = []
        for instrument in instruments():
            labels = ", ".join(f"``{name}``" for name in instrument.label_names)
            by = f", by {labels}" if labels else ""
            lines += [f"``{instrument.name}`` ({instrument.kind}{by})", f"    {instrument.doc}", ""]
        container = nodes.container()
        self.state.nested_parse(StringList(lines, source=nti.appserver.__file__), 0, container)
        return list(container.children)


def setup(app: Sphinx) -> dict[str, Any]:
    """Sphinx calls this when it loads the extension."""
    app.add_directive("metrics-table", MetricsTable)
    return {"parallel_read_safe": True}
