"""The suites of pyramid_tm and pyramid_retry, from their source distributions, against ours.

What fails must be a difference that is written down, here and in the how-to
about migrating; and each of these must fail.
"""

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.sdist import unpacked

#: Tests that ours does not pass, and why; and how many tests the suite has.
REGISTERS_OTHERWISE = "it looks at what pyramid_tm itself tells a double of the configurator"
DIFFERENCES = {
    "pyramid_tm==2.6": (
        63,
        {
            "Test_includeme.test_it": REGISTERS_OTHERWISE,
            "Test_includeme.test_valid_dotted": REGISTERS_OTHERWISE,
            "Test_includeme.test_invalid_dotted": REGISTERS_OTHERWISE,
            "TestIntegration.test_excview_rendered_after_failed_abort_from_uncaught_exc": (
                "when the abort that an error causes raises a ValueError, the loop of "
                "nti.transactions raises AbortFailedError, so a view of ValueError is not asked"
            ),
        },
    ),
    "pyramid_retry==2.1.1": (17, {}),
}


def failures(source: Path) -> tuple[set[str], int, str]:
    """The names of what fails in a suite, how many tests it has, and its output."""
    report = source / "report.xml"
    options = ["-q", "-p", "foreign", "-p", "no:cacheprovider", "-W", "ignore", "--tb=short"]
    command = [sys.executable, "-m", "pytest", *options, f"--junitxml={report}", "tests"]
    (source / "pytest.ini").write_text("[pytest]\n")
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    ran = subprocess.run(
        command, cwd=source, env=environ, capture_output=True, text=True, timeout=120
    )
    assert report.exists(), ran.stdout + ran.stderr
    cases = list(ElementTree.parse(report).iter("testcase"))
    failed = {
        case.attrib["classname"].rpartition(".")[2] + "." + case.attrib["name"]
        for case in cases
        if case.find("failure") is not None or case.find("error") is not None
    }
    return failed, len(cases), ran.stdout


@pytest.mark.parametrize("requirement", DIFFERENCES)
def test_the_suite_passes_but_for_what_is_written_down(requirement: str, tmp_path: Path) -> None:
    tests, differences = DIFFERENCES[requirement]
    failed, count, output = failures(unpacked(requirement, tmp_path))
    assert count == tests, output
    assert failed == set(differences), output
