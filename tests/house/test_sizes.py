"""Files and functions stay small enough to be read in one go."""

from pathlib import Path

import pytest

from tests.house.source import ROOT, functions, modules, python_files

FILE_LINES = 600
FUNCTION_LINES = 60
#: Nine functions in ten are at most this long.
USUAL_FUNCTION_LINES = 35


@pytest.mark.parametrize("path", python_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_and_its_functions_are_short(path: Path) -> None:
    lines = len(path.read_text("utf-8").splitlines())
    assert lines <= FILE_LINES, f"{lines} lines"
    long = [
        f"{name}, line {line}: {length} lines"
        for name, line, length in functions(path)
        if length > FUNCTION_LINES
    ]
    assert not long


def test_nine_functions_in_ten_are_quite_short() -> None:
    lengths = [length for module in modules().values() for _, _, length in functions(module.path)]
    short = sum(length <= USUAL_FUNCTION_LINES for length in lengths)
    assert short >= 0.9 * len(lengths), f"{short} of {len(lengths)}"
