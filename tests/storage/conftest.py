"""A ZEO server for each test that asks for one; PostgreSQL where it is installed."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from nti.appserver.testing.postgresql import find_programs
from nti.appserver.testing.zeo import ZEOServer


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """What needs PostgreSQL skips without its programs, or fails under REQUIRE_POSTGRESQL=1."""
    if item.get_closest_marker("postgresql") is None or find_programs() is not None:
        return
    if os.environ.get("REQUIRE_POSTGRESQL") != "1":
        pytest.skip("needs PostgreSQL's programs: install the package postgresql")


@pytest.fixture
def zeo(tmp_path: Path) -> Iterator[ZEOServer]:
    with ZEOServer(tmp_path / "zeo") as server:
        yield server
