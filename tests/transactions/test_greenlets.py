"""Runs `greenlet_cases` in one patched process; each case is a test here.

The process of the tests itself is never patched.
"""

import ast
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

CASES = Path(__file__).with_name("greenlet_cases.py")
NAMES = [
    node.name
    for node in ast.parse(CASES.read_text()).body
    if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
]

RUN = """
from gevent import monkey
monkey.patch_all()
import faulthandler, sys
faulthandler.dump_traceback_later(60, exit=True)
import pytest
sys.exit(pytest.main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What failed of each case, by name; an empty list: it has passed."""
    report = tmp_path_factory.mktemp("greenlets") / "report.xml"
    command = [sys.executable, "-c", RUN, "-q", "-p", "no:cacheprovider", f"--junitxml={report}"]
    ran = subprocess.run([*command, str(CASES)], capture_output=True, text=True, timeout=90)
    assert report.exists(), ran.stdout + ran.stderr
    found: dict[str, list[str]] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        problems = [each.text or "" for each in case if each.tag in ("failure", "error")]
        found.setdefault(case.attrib["name"].partition("[")[0], []).extend(problems)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_in_a_patched_process(name: str, outcomes: dict[str, list[str]]) -> None:
    assert name in outcomes, f"did not run; the others: {outcomes}"
    assert not outcomes[name], "\n".join(outcomes[name])
