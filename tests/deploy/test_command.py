"""`nti-appserver config` as somebody uses it who has never seen it."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from nti.appserver.deploy.command import config
from nti.appserver.deploy.options import OPTIONS
from nti.appserver.deploy.render import render
from nti.appserver.deploy.systems import SYSTEMS
from nti.appserver.errors import ConfigurationError


def run(*arguments: object) -> Result:
    return CliRunner().invoke(config, [str(argument) for argument in arguments])


EVERY = [(system.name, variant.name) for system in SYSTEMS for variant in system.variants]


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system.name)
def test_its_help_says_what_there_is(system: object) -> None:
    shown = run(system.name, "--help").output
    words = " ".join(shown.split())
    assert system.doc in run("--help").output.replace("\n             ", " ")
    for variant in system.variants:
        assert len(system.variants) == 1 or f"  {variant.name}  " in shown
        for option in variant.options:
            assert "--" + option.replace("_", "-") in shown
    assert system.check in words
    assert "VALUE" not in shown


def test_without_a_folder_it_prints_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shown = run("nginx", "--variant", "complete", "--server-name", "books.example").output
    assert shown == render("nginx", "complete", server_name="books.example")["nti-appserver.conf"]
    assert list(tmp_path.iterdir()) == []


def test_several_files_on_standard_output_are_announced() -> None:
    shown = run("systemd").output
    assert shown.index("# ---- nti-appserver.service") < shown.index("# ---- nti-appserver.socket")


@pytest.mark.parametrize("given", [["--app", "10.1.0.1:1 10.1.0.2:2"],
                                   ["--app", "10.1.0.1:1", "--app", "10.1.0.2:2"]])  # fmt: skip
def test_several_values_may_be_one_text_or_several_options(given: list[str]) -> None:
    shown = run("haproxy", "--variant", "several", *given).output
    assert "server app1 10.1.0.1:1 " in shown
    assert "server app2 10.1.0.2:2 " in shown
    assert "10.0.0.11" not in shown


def test_it_says_how_to_check_what_it_wrote(tmp_path: Path) -> None:
    assert f"haproxy -c -f {tmp_path}/haproxy.cfg" in run("haproxy", "-o", tmp_path).output


@pytest.mark.parametrize(("system", "variant"), EVERY)
def test_a_file_is_not_overwritten_unasked(system: str, variant: str, tmp_path: Path) -> None:
    command = [system, "--variant", variant, "-o", tmp_path]
    written = run(*command)
    assert written.exit_code == 0, written.output
    made = sorted(tmp_path.iterdir())
    assert {str(path) for path in made} <= set(written.output.split())
    assert run(*command).exit_code == 0  # the same text is no obstacle
    made[0].write_text("mine")
    others = [path.read_text() for path in made[1:]]
    refused = run(*command, *changed(system, variant))
    assert refused.exit_code == 1
    assert str(made[0]) in refused.output
    assert "--force" in refused.output
    assert made[0].read_text() == "mine"
    assert [path.read_text() for path in made[1:]] == others  # all or nothing
    assert run(*command, "--force").exit_code == 0
    assert made[0].read_text() != "mine"
    assert sorted(tmp_path.iterdir()) == made  # nothing left beside


def changed(system: str, variant: str) -> list[str]:
    """An option that changes every file of the variant, where there is one."""
    return ["--socket", "/run/other.sock"] if (system, variant) == ("systemd", "unix") else []


def test_a_folder_that_is_not_there_is_named_with_the_mend(tmp_path: Path) -> None:
    refused = run("nginx", "-o", tmp_path / "conf.d")
    assert refused.exit_code == 1
    assert f"mkdir -p {tmp_path}/conf.d" in refused.output
    assert not (tmp_path / "conf.d").exists()


def test_a_link_is_not_taken_for_a_file_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "haproxy.cfg").symlink_to(tmp_path / "nowhere")
    assert run("haproxy", "-o", tmp_path).exit_code == 1


@pytest.mark.parametrize(("system", "variant"), EVERY)
def test_no_value_can_end_a_line_a_quotation_or_a_block(system: str, variant: str) -> None:
    names = {name for s in SYSTEMS for v in s.variants if (s.name, v.name) == (system, variant)
             for name in v.options}  # fmt: skip
    for option in OPTIONS:
        for bad in ("x\ny", "x;y", "x}y", 'x"y', "x y z;", "$x", "`x`", "x#y", ""):
            if option.name in names:
                if option.many and not bad:
                    continue
                with pytest.raises(ConfigurationError, match=option.flag):
                    render(system, variant, **{option.name: bad})


@pytest.mark.parametrize(
    ("system", "variant", "options", "said"),
    [
        ("ngnix", "", {}, "did you mean nginx?"),
        ("nginx", "complet", {}, "did you mean complete?"),
        ("nginx", "implicit", {"certificate": "/x"}, "--variant complete, or leave it out"),
        ("nginx", "implicit", {"sever_name": "x"}, "did you mean --server-name?"),
        ("nginx", "implicit", {"root": "/x;}"}, "an absolute path"),
        ("nginx", "implicit", {"timeout": "20"}, "ping interval"),
        ("haproxy", "tls", {"app": "10.0.0.1:1 10.0.0.2:1"}, "--variant several"),
    ],
)
def test_a_mistake_is_named(system: str, variant: str, options: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said.replace("?", r"\?")):
        render(system, variant, **options)
