"""The directive `settings-table` and the role `:setting:`, from nti.appserver.settings.

The headings are the comments `# -- ...` between the rows of the source, so the
page has the order and the grouping of the table itself.
"""

import inspect
import re
from collections.abc import Iterator
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from nti.appserver import settings

HEADING = re.compile(r"    # -- (.+)")
FIELD = re.compile(r"    (\w+): ")


def groups() -> Iterator[tuple[str, list[settings.Row]]]:
    """The table's rows under the headings of its source."""
    rows = {row.name: row for row in settings.table()}
    heading, members = "", list[settings.Row]()
    for line in inspect.getsource(settings.Settings).splitlines():
        if match := HEADING.fullmatch(line):
            if members:
                yield heading, members
            heading, members = match[1], []
        elif (match := FIELD.match(line)) and match[1] in rows:
            members.append(rows[match[1]])
    yield heading, members


def described(row: settings.Row) -> Iterator[str]:
    """One row as reStructuredText."""
    default = f"``{row.default_text}``" if row.default_text else "empty"
    yield f".. setting:: {row.name}"
    yield ""
    yield f"   {row.doc}"
    yield ""
    yield f"   Value: {row.kind.expected}. Default: {default}."
    yield ""
    yield f"   ``{row.ini_name}`` ``{row.environ_name}`` ``{row.option}``"
    yield ""


class SettingsTable(SphinxDirective):
    """Every setting, grouped and in order."""

    has_content = False

    def run(self) -> list[nodes.Node]:
        self.env.note_dependency(settings.__file__)
        found: list[nodes.Node] = []
        for heading, rows in groups():
            section = nodes.section(ids=[nodes.make_id(heading)])
            title = heading[:1].upper() + heading[1:]
            section += nodes.title(title, title)
            lines = [line for row in rows for line in described(row)]
            self.state.nested_parse(StringList(lines, source=settings.__file__), 0, section)
            found.append(section)
        return found


def setup(app: Sphinx) -> dict[str, Any]:
    """Sphinx calls this when it loads the extension."""
    app.add_object_type("setting", "setting", indextemplate="pair: %s; setting")
    app.add_directive("settings-table", SettingsTable)
    return {"parallel_read_safe": True}
