"""What the distribution says of itself is true, and said once."""

import ast
import re
import tomllib
from importlib.metadata import EntryPoint
from typing import Any

import pytest

import nti.appserver
from tests.house.source import PACKAGE, ROOT, modules


def pyproject() -> dict[str, Any]:
    with open(ROOT / "pyproject.toml", "rb") as stream:
        return tomllib.load(stream)


def entry_points() -> list[EntryPoint]:
    project = pyproject()["project"]
    groups = {"console_scripts": project["scripts"], **project["entry-points"]}
    return [
        EntryPoint(name, value, group)
        for group, points in groups.items()
        for name, value in points.items()
    ]


def test_the_version_is_one() -> None:
    assert nti.appserver.__version__ == pyproject()["project"]["version"]


def test_the_changelog_begins_with_this_version() -> None:
    text = (ROOT / "CHANGES.rst").read_text("utf-8")
    first = re.search(r"^(\d[\w.]*) \((unreleased|\d{4}-\d{2}-\d{2})\)\n=+$", text, re.MULTILINE)
    assert first is not None, "no heading such as '1.0.0 (unreleased)'"
    release, _, development = nti.appserver.__version__.partition(".dev")
    assert first[1] == release
    assert (first[2] == "unreleased") == bool(development)


@pytest.mark.parametrize("point", entry_points(), ids=lambda point: f"{point.group}:{point.name}")
def test_an_entry_point_loads(point: EntryPoint) -> None:
    assert callable(point.load())


def test_nti_is_a_namespace_without_a_file() -> None:
    """PEP 420: an `__init__.py` here would hide the other nti.* distributions."""
    assert not (ROOT / "nti" / "__init__.py").exists()
    assert (ROOT / "nti" / "appserver" / "py.typed").exists()


def test_the_namespace_is_shared_with_other_distributions() -> None:
    import nti.transactions

    assert nti.transactions.__file__ is not None
    assert not nti.transactions.__file__.startswith(str(ROOT / "nti"))


@pytest.mark.parametrize("name", sorted(modules()))
def test_a_module_says_what_it_is_for(name: str) -> None:
    docstring = ast.get_docstring(modules()[name].tree)
    assert docstring, f"{name} has no docstring"


@pytest.mark.parametrize("name", sorted(modules()))
def test_what_is_public_is_explained(name: str) -> None:
    """Each public class and function at the top of a module has a docstring."""
    bare = [
        f"{node.name}, line {node.lineno}"
        for node in modules()[name].tree.body
        if isinstance(node, ast.ClassDef | ast.FunctionDef)
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
    ]
    assert not bare


def test_the_package_is_named_as_its_folder() -> None:
    assert pyproject()["project"]["name"] == PACKAGE
