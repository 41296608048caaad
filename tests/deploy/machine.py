"""systemd itself, process 1 of a machine made of namespaces, with the rendered units alone.

It needs root's powers, which a container often lacks: `Machine.start` skips the
test then. What the machine sees of the real one it cannot change, except for
the site's folder. Runs in the process of the tests.
"""

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

import psutil
import pytest

from nti.appserver.testing.process import ServerProcess, wait_until
from tests.deploy.programs import need

#: The site's folder, inside.
INSIDE = "/srv/site"

#: What the rendered units refer to. Debian's own would start a whole machine.
TARGETS = ("basic", "multi-user", "network", "shutdown", "sockets", "sysinit")


class Machine(ServerProcess):
    """A booted machine that can start the units; use it as a context manager.

    :param folder: the site's; a unit finds it at `INSIDE`.
    :param units: the texts of the units.
    :param drop_in: lines for the section [Service] of the service.
    """

    def __init__(self, folder: Path, units: Mapping[str, str], drop_in: str) -> None:
        self.folder = folder
        written = folder / "units"
        written.mkdir()
        for name, text in units.items():
            (written / name).write_text(text + drop_in if name.endswith(".service") else text)
        for target in TARGETS:
            (written / f"{target}.target").write_text("[Unit]\nDefaultDependencies=no\n")
        self._group = _groups() / f"nti-appserver-test-{os.getpid()}"
        boot = Path(__file__).with_name("boot.sh")
        enter = f"echo $$ > {self._group}/cgroup.procs && exec unshare"
        flags = "--mount --pid --uts --ipc --cgroup --fork --kill-child"
        super().__init__(["sh", "-c", f"{enter} {flags} sh {boot} {folder}"], cwd=folder / "units")
        self._init = 0

    def start(self) -> "Machine":
        """Boot; skips the test where this process may not."""
        for program in ("unshare", "nsenter", "systemctl"):
            need(program)
        try:
            self._group.mkdir()
        except OSError as problem:
            pytest.skip(f"no control group can be made: {problem}")
        super().start()
        wait_until(lambda: self._ended() or self._running(), "systemd runs")
        if self._ended():
            pytest.skip(f"systemd cannot be process 1 here: {self.output()}")
        return self

    def _ended(self) -> bool:
        assert self.process is not None
        return self.process.poll() is not None

    def _running(self) -> bool:
        children = psutil.Process(self.pid).children()
        self._init = children[0].pid if children else 0
        return bool(self._init) and "running" in self.systemctl("is-system-running").stdout

    def systemctl(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """`systemctl` in the machine, to its end."""
        enter = ["nsenter", "-t", str(self._init), "-m", "-u", "-i", "-p", "-C"]
        return subprocess.run(
            [*enter, "systemctl", "--no-pager", *words], capture_output=True, text=True, timeout=90
        )

    def logged(self) -> str:
        """What the service has printed, where its drop-in sends that to INSIDE/log."""
        log = self.folder / "log"
        return log.read_text("utf-8", "replace") if log.exists() else ""

    def show(self, name: str) -> str:
        """A property of the service."""
        return self.systemctl("show", "--value", "-p", name, "nti-appserver.service").stdout.strip()

    def stop(self, number: int = signal.SIGTERM, seconds: float = 30.0) -> int | None:
        """Stop the service, so that nothing of it stays behind, and end the machine."""
        if self._init and not self._ended():
            self.systemctl("stop", "nti-appserver.service", "nti-appserver.socket")
        status = super().stop(signal.SIGKILL, seconds)
        wait_until(self._group_removed, "the control group is removed")
        return status

    def _group_removed(self) -> bool:
        if self._group.exists():
            for path, _, _ in os.walk(self._group, topdown=False):
                with contextlib.suppress(OSError):
                    os.rmdir(path)
        return not self._group.exists()

    def __enter__(self) -> "Machine":
        return self.start()


def _groups() -> Path:
    """The folder of this machine's control groups."""
    for partition in psutil.disk_partitions(all=True):
        if partition.fstype == "cgroup2":
            return Path(partition.mountpoint)
    pytest.skip("control groups of version 2 are not mounted")
