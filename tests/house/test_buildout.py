"""The package serves from scripts that set their own path, as zc.buildout writes them."""

import os
import site
import sys
import sysconfig
import urllib.request
from pathlib import Path

import pytest

from nti.appserver.testing.process import GunicornProcess
from tests.house.source import ROOT

SCRIPT = """\
import sys
sys.path[0:0] = {path!r}
from gunicorn.app.wsgiapp import run
sys.exit(run())
"""


def interpreter() -> str:
    """The Python that this virtual environment was made of, which finds none of its packages."""
    if sys.prefix == sys.base_prefix:
        pytest.skip("the tests run without a virtual environment")
    return str(Path(sys.base_prefix, "bin", f"python{sysconfig.get_python_version()}"))


def test_gunicorn_serves_and_its_storage_starts(tmp_path: Path) -> None:
    script = tmp_path / "gunicorn"
    script.write_text(SCRIPT.format(path=[str(ROOT), *site.getsitepackages()]))
    server = GunicornProcess(cwd=tmp_path)
    server.command[0:1] = [interpreter(), str(script)]
    server.environ.pop("PYTHONPATH", None)
    with server:
        server.wait_until_serving()
        with urllib.request.urlopen(f"{server.url}/library", timeout=30) as answer:
            assert b'"Class":"Library"' in answer.read()
        assert os.path.exists(tmp_path / "var" / "Data.fs")
