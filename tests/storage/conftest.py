"""A ZEO server for each test that asks for one."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from nti.appserver.testing.zeo import ZEOServer


@pytest.fixture
def zeo(tmp_path: Path) -> Iterator[ZEOServer]:
    with ZEOServer(tmp_path / "zeo") as server:
        yield server
