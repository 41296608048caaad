"""Chromium, and a site that serves Python's documentation, indexed."""

import os
import shutil
from collections.abc import Iterator

import pytest

from tests.browser.site import PYTHON_DOC, Site
from tests.browser.windows import Window


def need(program: str) -> str:
    """The path of a program; the test is skipped, or fails under REQUIRE_BROWSER=1, without it."""
    found = shutil.which(program)
    if not found:
        absent(f"{program} is not installed")
    return str(found)


def absent(what: str) -> None:
    if os.environ.get("REQUIRE_BROWSER"):
        pytest.fail(what)
    pytest.skip(what)


@pytest.fixture(scope="package")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Python's documentation, served; the same for all tests, which use different pages of it."""
    need("chromium")
    if not PYTHON_DOC.is_dir():
        absent("the package python3-doc is not installed")
    site = Site(tmp_path_factory.mktemp("site"), PYTHON_DOC)
    try:
        site.start()
        site.wait_until_indexed()
        yield site
    finally:
        site.stop()


@pytest.fixture(scope="package")
def two_windows(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Window, Window]]:
    chromium, driver = need("chromium"), need("chromedriver")
    opened: list[Window] = []
    try:
        for number in range(2):
            profile = tmp_path_factory.mktemp(f"profile-{number}")
            opened.append(Window(chromium, driver, profile))
        yield opened[0], opened[1]
    finally:
        for window in opened:
            window.close()
