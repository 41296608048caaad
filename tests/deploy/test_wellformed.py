"""Every rendered configuration is read by the program that it is for."""

import plistlib
from pathlib import Path

import pytest

from nti.appserver.deploy.render import render
from tests.deploy import programs
from tests.deploy.programs import need, run


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return programs.certificate(tmp_path_factory.mktemp("tls"))


@pytest.mark.parametrize("variant", ["implicit", "explicit", "complete", "static"])
def test_nginx_reads_it(variant: str, tmp_path: Path, tls: dict[str, str]) -> None:
    options = {"root": tmp_path}
    if variant == "complete":
        version = programs.nginx_version()
        options |= {"certificate": tls["certificate"], "key": tls["key"], "nginx_version": version}
    done = run(*programs.nginx_command(tmp_path / "nginx", variant, **options), "-t")
    assert done.returncode == 0, done.stderr
    assert "[warn]" not in done.stderr


@pytest.mark.parametrize("variant", ["plain", "tls", "stunnel", "several"])
def test_haproxy_reads_it(variant: str, tmp_path: Path, tls: dict[str, str]) -> None:
    options = {"combined": tls["combined"]} if variant in ("tls", "several") else {}
    path = tmp_path / "haproxy.cfg"
    path.write_text(render("haproxy", variant, **options)["haproxy.cfg"])
    done = run(need("haproxy"), "-c", "-f", path)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr


@pytest.mark.parametrize("variant", ["plain", "tls"])
def test_pound_reads_it(variant: str, tmp_path: Path, tls: dict[str, str]) -> None:
    path = tmp_path / "pound.cfg"
    options = {"combined": tls["combined"]} if variant == "tls" else {}
    path.write_text(render("pound", variant, **options)["pound.cfg"])
    done = run(need("pound"), "-c", "-f", path)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


def test_launchd_and_logrotate_read_theirs(tmp_path: Path) -> None:
    job = plistlib.loads(next(iter(render("launchd").values())).encode())
    assert job["ProgramArguments"][0] == "/opt/nti/bin/gunicorn"
    path = tmp_path / "rotate"
    path.write_text(
        render("logrotate", log_dir=str(tmp_path), user="root", group="root")["nti-appserver"]
    )
    path.chmod(0o644)
    done = run(need("logrotate"), "--debug", path)
    assert done.returncode == 0, done.stderr
    assert "error:" not in done.stderr
