"""The documents speak of settings, commands and targets that there are."""

import re
from importlib import import_module
from pathlib import Path

import pytest

from nti.appserver.settings import table
from tests.house.source import ROOT

COMMAND = (
    "gunicorn -k nti.appserver.gunicorn.GeventApplicationWorker nti.appserver.gunicorn:app"
    " -b 127.0.0.1:8081"
)
NAMES = {row.name for row in table()}


def documents() -> list[Path]:
    """Every page, the readme and the changelog."""
    pages = [path for path in (ROOT / "docs").rglob("*.rst") if "_build" not in path.parts]
    return sorted([*pages, ROOT / "README.rst", ROOT / "CHANGES.rst"])


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", documents(), ids=shown)
def test_a_setting_that_is_mentioned_exists(path: Path) -> None:
    text = path.read_text("utf-8")
    mentioned = set(re.findall(r":setting:`(\w+)`", text))
    mentioned |= set(re.findall(r"(?<![\w.])appserver\.([a-z]\w*) *=", text))
    mentioned |= {name.lower() for name in re.findall(r"NTI_APPSERVER_([A-Z]\w*)", text)}
    assert mentioned - {"config"} <= NAMES


def test_the_settings_page_is_made_from_the_table() -> None:
    page = (ROOT / "docs" / "reference" / "settings.rst").read_text("utf-8")
    assert ".. settings-table::" in page


def test_the_directive_gives_every_setting_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "_ext"))
    sphinx_extension = import_module("settings_table")
    grouped = [row.name for _, rows in sphinx_extension.groups() for row in rows]
    assert grouped == [row.name for row in table()]
    assert all(heading for heading, _ in sphinx_extension.groups())


@pytest.mark.parametrize("path", ["README.rst", "docs/index.rst"])
def test_the_one_command_is_written_out(path: str) -> None:
    assert COMMAND in (ROOT / path).read_text("utf-8")


def test_buildout_is_installed_with_the_setuptools_that_the_package_asks_for() -> None:
    """The environment's setuptools comes before the eggs."""
    metadata = (ROOT / "pyproject.toml").read_text("utf-8")
    asked = re.search(r'^    "(setuptools<\d+)",$', metadata, re.MULTILINE)
    assert asked is not None
    for path in ("buildout.cfg", "docs/how-to/install.rst"):
        text = (ROOT / path).read_text("utf-8")
        assert f"pip install 'zc.buildout>=6' '{asked[1]}'" in text


def test_the_readme_names_targets_that_there_are() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    readme = (ROOT / "README.rst").read_text("utf-8")
    assert set(re.findall(r"\bmake ([a-z-]+)\b", readme)) & targets >= {"serve", "test", "docs"}
