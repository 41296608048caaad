"""Runs a file of pytest cases in a process that gevent has patched.

The process of the tests itself is never patched; what runs there reports here.
"""

import ast
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

_RUN = """
from gevent import monkey
monkey.patch_all()
import faulthandler, sys
faulthandler.dump_traceback_later(580, exit=True)
import pytest
sys.exit(pytest.main(sys.argv[1:]))
"""

Outcomes = dict[str, list[str]]


def names_in(cases: Path) -> list[str]:
    """The names of the tests in a file, which is not imported."""
    return [
        node.name
        for node in ast.parse(cases.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]


def run_patched(cases: Path, folder: Path, **environ: str) -> Outcomes:
    """What failed of each test in a file, by name; an empty list: it has passed.

    :param folder: for the report.
    :param environ: added to the environment.
    """
    report = folder / "report.xml"
    command = [sys.executable, "-c", _RUN, "-q", "-p", "no:cacheprovider", f"--junitxml={report}"]
    ran = subprocess.run(
        [*command, str(cases)],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert report.exists(), ran.stdout + ran.stderr
    found: Outcomes = {}
    for case in ElementTree.parse(report).iter("testcase"):
        problems = [each.text or "" for each in case if each.tag in ("failure", "error")]
        found.setdefault(case.attrib["name"].partition("[")[0], []).extend(problems)
    return found
