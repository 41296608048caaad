"""The directives `configuration`, `variants` and `front-options`, from nti.appserver.deploy.

The deployment guide shows what `nti-appserver config` prints and what the tests run:
the templates are rendered while the site is built. An excerpt names the lines that it
begins and ends with, so a template that changed under the guide fails the build.
"""

from collections.abc import Iterator
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from nti.appserver.deploy.options import by_name
from nti.appserver.deploy.render import find_system, find_variant, render
from nti.appserver.deploy.systems import System
from nti.appserver.errors import ConfigurationError


def excerpt(text: str, first: str, last: str) -> str:
    """The lines from the one that contains `first` to the next one that contains `last`.

    :param last: empty for the one line alone.
    :raises ValueError: there is no such line.
    """
    lines = text.splitlines()
    begin = _index(lines, first, 0)
    end = _index(lines, last, begin) if last else begin
    shown = lines[begin : end + 1]
    indent = min((len(line) - len(line.lstrip()) for line in shown if line.strip()), default=0)
    return "\n".join(line[indent:] for line in shown)


def _index(lines: list[str], wanted: str, start: int) -> int:
    for index in range(start, len(lines)):
        if wanted in lines[index]:
            return index
    raise ValueError(f"no line with {wanted!r} from line {start + 1} on")


class Configuration(SphinxDirective):
    """`.. configuration:: SYSTEM VARIANT`: a rendered file, or lines of it."""

    required_arguments = 1
    optional_arguments = 1
    option_spec: ClassVar[dict[str, Any]] = {
        "file": directives.unchanged_required,
        "from": directives.unchanged_required,
        "to": directives.unchanged_required,
        "with": directives.unchanged_required,
    }

    def run(self) -> list[nodes.Node]:
        given = dict(pair.split("=", 1) for pair in self.options.get("with", "").split())
        try:
            files = render(*self.arguments, **given)
            name = self.options.get("file", next(iter(files)))
            text = files[name]
            if "from" in self.options:
                text = excerpt(text, self.options["from"], self.options.get("to", ""))
        except (ConfigurationError, KeyError, ValueError) as problem:
            raise self.error(f"{' '.join(self.arguments)}: {problem}") from problem
        block = nodes.literal_block(text, text, language="none")
        self.set_source_info(block)
        if "from" in self.options:
            return [block]
        system = find_system(self.arguments[0])
        variant = find_variant(system, *self.arguments[1:])
        place = next(file.place for file in variant.files if file.name == name)
        command = " ".join(["nti-appserver config", system.name, "--variant", variant.name])
        command += "".join(f" {by_name()[key].flag} {value}" for key, value in given.items())
        return [
            *self.parse_text_to_nodes(f"``{place}{name}``, printed by ``{command}``:"),
            block,
        ]


def variant_lines(system: System) -> Iterator[str]:
    """The system's variants as a definition list."""
    for variant in system.variants:
        yield f"``{variant.name}``"
        yield f"    {variant.doc}"


def option_lines(system: System) -> Iterator[str]:
    """The options of all variants as a table."""
    yield from (".. list-table::", "   :header-rows: 1", "   :widths: auto", "")
    yield from ("   * - Option", "     - Default", "     - Meaning")
    for name in system.options:
        option = by_name()[name]
        takers = [variant for variant in system.variants if name in variant.options]
        defaults = {dict(variant.defaults).get(name, option.default) for variant in takers}
        yield f"   * - ``{option.flag}``"
        yield f"     - {' or '.join(f'``{default}``' for default in sorted(defaults))}"
        yield f"     - {option.doc}"


class OfSystem(SphinxDirective):
    """A directive whose text is made from one row of the catalogue."""

    required_arguments = 1
    lines = staticmethod(variant_lines)

    def run(self) -> list[nodes.Node]:
        try:
            system = find_system(self.arguments[0])
        except ConfigurationError as problem:
            raise self.error(str(problem)) from problem
        holder = nodes.Element()
        source = StringList(list(self.lines(system)), source=self.get_source_info()[0])
        self.state.nested_parse(source, self.content_offset, holder)
        return holder.children


class FrontOptions(OfSystem):
    """`.. front-options:: SYSTEM`."""

    lines = staticmethod(option_lines)


def setup(app: Sphinx) -> dict[str, Any]:
    """Sphinx calls this when it loads the extension."""
    app.add_directive("configuration", Configuration)
    app.add_directive("variants", OfSystem)
    app.add_directive("front-options", FrontOptions)
    return {"parallel_read_safe": True}
