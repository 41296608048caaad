"""The command `nti-appserver`, and serving by it and by the sample ini."""

import json
import shutil
import subprocess
import sys
import urllib.request
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from nti.appserver import cli
from nti.appserver.settings import table
from nti.appserver.testing.process import (
    STARTING_SECONDS,
    GunicornProcess,
    ServerProcess,
    free_port,
)
from tests.house.source import ROOT

SITE = """
import json, os
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps([os.getpid(), environ["wsgi.multiprocess"]]).encode()]
"""


def run(*arguments: str) -> Any:
    return CliRunner().invoke(cli.main, arguments)


def test_help_names_every_command_and_every_setting() -> None:
    assert "serve" in run("--help").output
    told = run("serve", "--help").output
    for row in table():
        assert row.option in told


@pytest.mark.parametrize("arguments", [[], ["config"]])
def test_the_list_of_commands_says_what_each_does_to_the_end(arguments: list[str]) -> None:
    told = run(*arguments, "--help").output
    assert "..." not in told.partition("Commands:")[2]


def test_the_package_is_the_command_too() -> None:
    command = [sys.executable, "-m", "nti.appserver", "--version"]
    assert "nti-appserver, version" in subprocess.check_output(command, text=True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["serve", "--attempts", "0"], "command line: setting attempts is '0'; expected"),
        (["serve", "--atempts", "2"], "No such option"),
        (["search"], "No such command"),
    ],
)
def test_mistakes_are_told_without_a_traceback(arguments: list[str], said: str) -> None:
    result = run(*arguments)
    assert result.exit_code != 0
    assert said in result.output
    assert "Traceback" not in result.output


def test_rooms_add_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    points = {
        "greet": EntryPoint("greet", f"{__name__}:greet", cli.COMMANDS),
        "broken": EntryPoint("broken", "nowhere_at_all:command", cli.COMMANDS),
    }
    monkeypatch.setattr(cli, "_added", lambda: points)
    assert run("greet").output == "hello\n"
    assert "cannot be imported" in run("--help").output
    result = run("broken")
    assert result.exit_code == 1
    assert "nowhere_at_all" in result.output


@cli.click.command()
def greet() -> None:
    cli.click.echo("hello")


def test_a_configuration_error_of_a_command_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    points = {"fail": EntryPoint("fail", f"{__name__}:fail", cli.COMMANDS)}
    monkeypatch.setattr(cli, "_added", lambda: points)
    result = run("fail")
    assert (result.exit_code, result.output) == (1, "Error: it is so; expected otherwise\n")


@cli.click.command()
def fail() -> None:
    from nti.appserver.errors import ConfigurationError

    raise ConfigurationError("it is so", "otherwise")


def test_serve_takes_settings_and_gunicorns_options(tmp_path: Path) -> None:
    (tmp_path / "mysite.py").write_text(SITE)
    port = free_port()
    command = [str(Path(sys.executable).with_name("nti-appserver")), "serve", "mysite:app"]
    command += ["--storage", "none", "--", "--workers", "2", "--no-control-socket"]
    with ServerProcess([*command, "-b", f"127.0.0.1:{port}"], cwd=tmp_path) as server:
        server.wait_for_output(f"Serving http://127.0.0.1:{port}/", seconds=STARTING_SECONDS)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as answer:
            pid, several = json.load(answer)
        assert several
        assert pid != server.pid
        assert server.stop() == 0


def test_serve_refuses_what_gunicorn_does_not_know(tmp_path: Path) -> None:
    command = [str(Path(sys.executable).with_name("nti-appserver")), "serve", "--", "--nonsense"]
    with ServerProcess(command, cwd=tmp_path) as server:
        assert server.wait() == 2
    assert "unrecognized arguments: --nonsense" in server.output()


def test_the_sample_ini_serves(tmp_path: Path) -> None:
    shutil.copy(ROOT / "docs/samples/development.ini", tmp_path)
    with GunicornProcess("", "--paste", "development.ini", cwd=tmp_path) as server:
        server.wait_until_serving()
        with urllib.request.urlopen(f"{server.url}/library", timeout=30) as answer:
            assert answer.status == 200
    assert (tmp_path / "var/Data.fs").exists()
