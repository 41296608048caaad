"""What the doctor finds on the machine itself; each is broken for real."""

import os
import resource
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from nti.appserver.doctor.checks import limits
from nti.appserver.doctor.checks.versions import PROGRAMS, Known, has_fault
from nti.appserver.doctor.command import doctor
from nti.appserver.doctor.subject import Loaded, Subject
from nti.appserver.settings import Settings
from nti.appserver.testing.process import free_port

from .conftest import Diagnose

CONF = 'worker_class = "nti.appserver.gunicorn.GeventApplicationWorker"\n'


def test_a_sound_site_has_no_findings(folder: Path, diagnose: Diagnose) -> None:
    (folder / "var").mkdir(mode=0o700)
    found = diagnose(conf=CONF)
    assert found.status == 0
    assert [each for each in found.findings if each["severity"] == "fault"] == []


# -- loading


def test_code_that_does_not_load(folder: Path, diagnose: Diagnose) -> None:
    (folder / "mysite.py").write_text("import no_such_module\n")
    found = diagnose(only="loading")
    assert found.status == 1
    assert "no_such_module" in found.one("loading")["seen"]


def test_another_worker_class(diagnose: Diagnose) -> None:
    found = diagnose(only="loading", conf='worker_class = "gevent"\n').one("loading")
    assert "gevent" in found["seen"]
    assert CONF.strip() in found["mend"]


def test_imports_before_patching(diagnose: Diagnose) -> None:
    found = diagnose(only="patching", conf=CONF + "import transaction\n")
    assert found.status == 1
    why = {each["about"]: each["why"] for each in found.of("patching")}
    assert "share one transaction" in why["transaction"]


def test_a_preloaded_application_that_imports_too_early(folder: Path, diagnose: Diagnose) -> None:
    (folder / "mysite.py").write_text("import transaction\ndef app(e, s): ...\n")
    conf = CONF + 'wsgi_app = "mysite:app"\n'
    assert diagnose(only="patching", conf=conf).findings == []
    assert diagnose(only="patching", conf=conf + "preload_app = True\n").of("patching")


def test_a_driver_that_blocks(folder: Path, diagnose: Diagnose) -> None:
    (folder / "pycurl.py").write_text("")
    (folder / "mysite.py").write_text("import pycurl\ndef app(e, s): ...\n")
    found = diagnose(only="drivers").one("drivers")
    assert "pycurl" in found["seen"]
    assert "requests" in found["mend"]


def test_psycopg2_with_a_wait_callback_is_fine(folder: Path, diagnose: Diagnose) -> None:
    (folder / "psycopg2").mkdir()
    (folder / "psycopg2" / "__init__.py").write_text("from psycopg2 import extensions\n")
    hook = folder / "psycopg2" / "extensions.py"
    (folder / "mysite.py").write_text("import psycopg2\ndef app(e, s): ...\n")
    hook.write_text("def get_wait_callback(): return None\n")
    assert "psycogreen" in diagnose(only="drivers").one("drivers")["mend"]
    hook.write_text("def get_wait_callback(): return print\n")
    assert diagnose(only="drivers").findings == []


def test_psycopg2_itself_is_fine_in_a_worker(folder: Path, diagnose: Diagnose) -> None:
    site = folder / "mysite.py"
    site.write_text("import psycopg2.extensions\ndef app(e, s): ...\n")
    assert diagnose(only="drivers").findings == []
    site.write_text(f"{site.read_text()}psycopg2.extensions.set_wait_callback(None)\n")
    assert "psycopg2" in diagnose(only="drivers").one("drivers")["seen"]


def test_a_storage_that_is_not_there(diagnose: Diagnose, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = f"zeo://127.0.0.1:{free_port()}"
    monkeypatch.setenv("NTI_APPSERVER_STORAGE", uri)
    monkeypatch.setenv("NTI_APPSERVER_STORAGE_TIMEOUT", "1")
    found = diagnose(only="storage").one("storage")
    assert found["severity"] == "fault"
    assert found["about"].startswith(uri)


# -- limits


def test_too_few_descriptors(folder: Path) -> None:
    """In a process of its own, because a limit cannot be raised again."""
    command = [sys.executable, "-m", "nti.appserver", "doctor", "--only", "descriptors", "--strict"]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (900, 900)),
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "may open 900 files: 644 connections at a time" in done.stdout
    assert "LimitNOFILE=32768" in done.stdout


def test_trust_in_everyone_who_can_connect(diagnose: Diagnose) -> None:
    everyone = "forwarded_allow_ips = '*'\nbind = '{}:8081'\n"
    found = diagnose(only="trust", conf=everyone.format("0.0.0.0")).one("trust")
    assert "listens on 0.0.0.0:8081" in found["seen"]
    assert diagnose(only="trust", conf=everyone.format("127.0.0.1")).findings == []
    assert diagnose(only="trust", conf="bind = '0.0.0.0:8081'\n").findings == []


def test_a_backlog_that_the_kernel_cuts(diagnose: Diagnose) -> None:
    found = diagnose(only="backlog", conf="backlog = 1000000\n").one("backlog")
    assert "sysctl -w net.core.somaxconn=1000000" in found["mend"]


def test_more_requests_than_database_connections(diagnose: Diagnose) -> None:
    assert diagnose(only="leases", conf="worker_connections = 1000\n").findings == []
    found = diagnose(only="leases", conf="worker_connections = 5000\n").one("leases")
    assert "connection_limit = 500" in found["mend"]


def test_more_connections_than_postgresql_lets_in() -> None:
    subject = Subject(Settings())
    vars(subject)["loaded"] = Loaded(gunicorn={"workers": 4}, storages={"max_connections": 100})
    (found,) = limits.leases(subject)
    assert "connection_limit = 12" in found.mend
    assert "max_connections = 800" in found.mend


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")
def test_a_disk_that_is_nearly_full(folder: Path, diagnose: Diagnose) -> None:
    disk = folder / "var"
    disk.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)]
    if subprocess.run(mounting, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        assert diagnose(only="space").findings == []
        (disk / "ballast").write_bytes(bytes(4000 << 10))
        assert "is free" in diagnose(only="space").one("space")["seen"]
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


# -- permissions


@pytest.mark.parametrize(("mode", "severity"), [(0o755, "warning"), (0o777, "fault")])
def test_a_var_that_others_see(folder: Path, diagnose: Diagnose, mode: int, severity: str) -> None:
    var = folder / "var"
    var.mkdir()
    var.chmod(mode)
    found = diagnose(only="folders").one("folders")
    assert found["severity"] == severity
    assert found["mend"] == "chmod 0700 var"
    var.chmod(0o700)
    assert diagnose(only="folders").findings == []


def test_a_socket_that_everyone_may_connect_to(folder: Path, diagnose: Diagnose) -> None:
    path = folder / "app.sock"
    conf = f'bind = "unix:{path}"\n'
    assert "will be 0777" in diagnose(only="sockets", conf=conf).one("sockets")["seen"]
    assert diagnose(only="sockets", conf=conf + "umask = 0o007\n").findings == []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        path.chmod(0o777)
        assert "is 0777" in diagnose(only="sockets", conf=conf).one("sockets")["seen"]


def test_a_key_that_others_read(folder: Path, diagnose: Diagnose) -> None:
    key = folder / "server.key"
    key.write_text("secret")
    key.chmod(0o644)
    conf = f'keyfile = "{key}"\n'
    assert diagnose(only="keys", conf=conf).one("keys")["mend"] == f"chmod 0600 {key}"
    key.chmod(0o640)
    assert diagnose(only="keys", conf=conf).findings == []


# -- versions


def test_a_version_that_was_not_asked_for(folder: Path) -> None:
    """gunicorn 21.2, as far as its metadata tells."""
    info = folder / "gunicorn-21.2.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: gunicorn\nVersion: 21.2.0\n")
    names = ("requirements", "known-faults")
    command = [sys.executable, "-m", "nti.appserver", "doctor"]
    command += [word for name in names for word in ("--only", name)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1, done.stderr
    assert "gunicorn 21.2.0 installed, gunicorn" in done.stdout
    assert "CVE-2024-1135" in done.stdout
    assert "CVE-2024-6827" in done.stdout


def test_a_program_with_a_known_fault(
    folder: Path, diagnose: Diagnose, monkeypatch: pytest.MonkeyPatch
) -> None:
    for program, said in (("nginx", "nginx version: nginx/1.18.0"), ("haproxy", "version 2.6.8")):
        (folder / program).write_text(f"#!/bin/sh\necho '{said}' >&2\n")
        (folder / program).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    about = [each["about"] for each in diagnose(only="known-faults").of("known-faults")]
    assert about == ["nginx", "haproxy"]


@pytest.mark.parametrize(
    ("version", "faulty"), [("2.0.30", True), ("2.0.31", False), ("2.6.8", True), ("2.6.12", False)]
)
def test_ranges_of_versions(version: str, faulty: bool) -> None:
    (known,) = PROGRAMS["haproxy"][1]
    assert has_fault(known, version) is faulty
    assert not has_fault(Known("it", "<2", "", ""), "no version")


# -- the command


def test_for_people() -> None:
    done = CliRunner().invoke(doctor, ["--only", "backlog"])
    assert done.output == "1 check, 0 faults, 0 warnings\n"
    wrong = CliRunner().invoke(doctor, ["--url", "example.org"])
    assert wrong.exit_code == 2
    assert "https://example.org/" in wrong.output


def test_warnings_count_when_asked(folder: Path) -> None:
    (folder / "var").mkdir(mode=0o755)
    (folder / "var").chmod(0o755)
    for strict, status in ((), 0), (("--strict",), 1):
        done = CliRunner().invoke(doctor, ["--only", "folders", *strict])
        assert done.exit_code == status
        assert "WARNING folders: var\n  seen: its mode is 0755" in done.output
