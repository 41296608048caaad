"""Asking the doctor as an operator does, and a site for it to look at."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner

from nti.appserver.doctor.command import doctor
from nti.appserver.testing.process import GunicornProcess

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Diagnosis:
    """What the doctor said.

    :param status: the exit status.
    """

    status: int
    findings: list[dict[str, str]]

    def of(self, check: str) -> list[dict[str, str]]:
        return [each for each in self.findings if each["check"] == check]

    def one(self, check: str) -> dict[str, str]:
        """The one finding of a check, which says all that it has to."""
        found = self.of(check)
        assert len(found) == 1, self.findings
        assert all(found[0].values()), found
        return found[0]


Diagnose = Callable[..., Diagnosis]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The site's folder, with an application; the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mysite.py").write_text("def app(environ, start_response): ...\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT}")
    monkeypatch.setenv("NTI_APPSERVER_APPLICATION", "mysite:app")
    return tmp_path


@pytest.fixture
def diagnose(folder: Path) -> Diagnose:
    """Runs the doctor in the site's folder; `conf` is gunicorn's configuration."""

    def ask(*arguments: str, only: str = "", conf: str | None = None) -> Diagnosis:
        options = [*arguments, "--json", *(["--only", only] if only else [])]
        if conf is not None:
            path = folder / "gunicorn.conf.py"
            path.write_text(conf)
            options += ["--gunicorn", str(path)]
        done = CliRunner().invoke(doctor, options)
        assert done.exit_code in (0, 1), done.output
        return Diagnosis(done.exit_code, json.loads(done.stdout)["findings"])

    return ask


@pytest.fixture(scope="package")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GunicornProcess]:
    """A site of two workers, for fronts to stand before."""
    environ = {
        "NTI_APPSERVER_APPLICATION": "tests.deploy.site:answer",
        "NTI_APPSERVER_STORAGE": "none",
        "NTI_APPSERVER_PING_INTERVAL": "3",
        "PYTHONPATH": str(ROOT),
    }
    folder = tmp_path_factory.mktemp("site")
    with GunicornProcess(
        "nti.appserver.gunicorn:app", "-w", "2", cwd=folder, environ=environ
    ) as it:
        yield it.wait_until_serving()
