"""Units of work among greenlets, and random programs of them; each case is a test here."""

from pathlib import Path

import pytest

from .patched import Outcomes, names_in, run_patched

HERE = Path(__file__).parent
FILES = (
    "greenlet_cases.py",
    "pooled_cases.py",
    "arrival_cases.py",
    "ending_cases.py",
    "random_programs.py",
)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    found: Outcomes = {}
    for name in FILES:
        found.update(run_patched(HERE / name, tmp_path_factory.mktemp("patched")))
    return found


@pytest.mark.parametrize("name", [name for file in FILES for name in names_in(HERE / file)])
def test_in_a_patched_process(name: str, outcomes: Outcomes) -> None:
    assert name in outcomes, f"did not run; the others: {outcomes}"
    assert not outcomes[name], "\n".join(outcomes[name])


@pytest.mark.soak
def test_many_random_programs(tmp_path: Path) -> None:
    found = run_patched(HERE / "random_programs.py", tmp_path, RANDOM_PROGRAMS="4000")
    assert found
    for problems in found.values():
        assert not problems, "\n".join(problems)
