"""The printed units under systemd itself: started, reloaded under load, stopped, confined."""

import os
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from nti.appserver.deploy.render import render
from tests.deploy.load import Load
from tests.deploy.machine import INSIDE, Machine
from tests.deploy.programs import connect_unix

ROOT = Path(__file__).resolve().parents[2]

SITE = """
import json, os
def app(environ, start_response):
    body = environ["wsgi.input"].read().decode()
    start_response("200 OK", [])
    return [json.dumps({"pid": os.getpid(), "body": body, "version": VERSION}).encode()]
"""

#: Where Python and the package lie is this checkout's affair; homes are hidden as ever.
DROP_IN = f"""
[Service]
Environment=NTI_APPSERVER_APPLICATION=site_code:app NTI_APPSERVER_STORAGE=none
Environment=PYTHONPATH={INSIDE}:{ROOT} PYTHONDONTWRITEBYTECODE=1
ProtectHome=tmpfs
BindReadOnlyPaths={sys.base_prefix} {sys.prefix} {ROOT}
StandardOutput=append:{INSIDE}/log
StandardError=append:{INSIDE}/log
"""


def write_site(folder: Path, version: str) -> None:
    (folder / "site_code.py").write_text(f"VERSION = {version}\n{SITE}")


@pytest.fixture
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    folder = tmp_path_factory.mktemp("machine")
    folder.chmod(0o755)  # for the unit's user
    where = {"socket": f"{INSIDE}/app.sock"}
    conf = render("gunicorn", "unix", workers=2, var="/var/lib/nti-appserver", **where)
    (folder / "gunicorn.conf.py").write_text(conf["gunicorn.conf.py"])
    write_site(folder, "1")
    who = {"user": "nobody", "group": "nogroup", "socket_group": "nogroup"}
    config = f"{INSIDE}/gunicorn.conf.py"
    units = render("systemd", "unix", prefix=sys.prefix, config=config, **where, **who)
    with Machine(folder, units, DROP_IN) as machine:
        yield machine


def test_the_units_start_reload_under_load_and_stop(machine: Machine) -> None:
    folder, service = machine.folder, "nti-appserver.service"
    started = machine.systemctl("start", "nti-appserver.socket", service)
    assert started.returncode == 0, started.stderr + machine.logged()
    assert machine.show("ActiveState") == "active"
    assert (folder / "app.sock").stat().st_mode & 0o777 == 0o660
    connect = partial(connect_unix, folder / "app.sock")
    with Load(connect, kept=False) as load:
        before = set(load.pids)
        write_site(folder, "no python")
        refused = machine.systemctl("reload", service)
        assert refused.returncode == 1, machine.logged()
        assert "running ones were not touched" in machine.logged()
        assert "Handling signal: hup" not in machine.logged()
        write_site(folder, "2")
        reloaded = machine.systemctl("reload", service)
        assert reloaded.returncode == 0, machine.logged()
        assert machine.show("SubState") == "running"
        assert "2 new workers serve" in machine.logged()
        load.wait_for_another(before)
    assert load.problems == []
    assert machine.systemctl("stop", service).returncode == 0
    assert machine.show("Result") == "success", machine.logged()
    assert machine.show("ActiveState") == "inactive"
    assert "Operation not permitted" not in machine.logged()


def test_a_crash_is_followed_by_a_start_on_the_same_socket(machine: Machine) -> None:
    assert machine.systemctl("start", "nti-appserver.service").returncode == 0, machine.logged()
    connect = partial(connect_unix, machine.folder / "app.sock")
    first = machine.show("MainPID")
    machine.systemctl("kill", "--signal=KILL", "nti-appserver.service")
    # Who comes now waits in the socket's queue, which systemd holds.
    with Load(connect, kept=False) as load:
        pass
    assert load.problems == []
    assert machine.show("MainPID") not in (first, "0")
    assert machine.show("NRestarts") == "1"
    assert os.path.exists(machine.folder / "app.sock")
