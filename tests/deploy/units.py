"""A very small service manager: what systemd does with the rendered units, as far as tests ask.

It holds the socket, passes it on (sd_listen_fds(3)), takes notifications
(sd_notify(3)), runs ExecReload= line by line until one fails, and stops with
SIGTERM. Runs in the process of the tests.
"""

import contextlib
import os
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from nti.appserver.testing.process import PATIENCE_SECONDS, ServerProcess

#: Runs a command with an inherited socket as systemd hands it over.
HAND_OVER = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])
"""


def hand_over(server: ServerProcess, held: socket.socket) -> None:
    """Have the server, not started yet, take this socket instead of making its own."""
    server.descriptors = (held.fileno(),)
    server.command = [sys.executable, "-c", HAND_OVER, str(held.fileno()), *server.command]


class Service(ServerProcess):
    """A rendered service with its socket.

    :param units: the texts of nti-appserver.service and nti-appserver.socket.
    :param folder: stands for the state and runtime directories.
    :param environ: as `Environment=` of a drop-in.
    :param before: goes before the command, such as a program that confines it.
    """

    def __init__(
        self,
        units: Mapping[str, str],
        folder: Path,
        environ: Mapping[str, str],
        before: tuple[str, ...] = (),
    ) -> None:
        self._service = units["nti-appserver.service"].replace("%S", str(folder))
        self._service = self._service.replace("%t", str(folder))
        (address,) = self.values(units["nti-appserver.socket"], "ListenStream")
        self.held = listening_socket(address)
        self.notifications = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        path = folder / "notify"
        self.notifications.bind(str(path))
        (folder / "nti-appserver").mkdir(exist_ok=True)
        pairs = (line.partition("=") for line in self.values(self._service, "Environment"))
        own = {name: value for name, _, value in pairs}
        (start,) = self.values(self._service, "ExecStart")
        super().__init__(
            [*before, *shlex.split(start)],
            cwd=folder,
            environ={**own, **environ, "NOTIFY_SOCKET": str(path)},
        )
        hand_over(self, self.held)

    @staticmethod
    def values(unit: str, key: str) -> list[str]:
        """The values of every line with this key."""
        return [line[len(key) + 1 :] for line in unit.splitlines() if line.startswith(key + "=")]

    def notification(self) -> list[str]:
        """The next notification, line by line."""
        self.notifications.settimeout(PATIENCE_SECONDS)
        return self.notifications.recv(4096).decode().splitlines()

    def reload(self) -> subprocess.CompletedProcess[str]:
        """`systemctl reload`: the last command that was run."""
        for line in self.values(self._service, "ExecReload"):
            command = shlex.split(line.replace("$MAINPID", str(self.pid)))
            done = subprocess.run(
                command, cwd=self.cwd, env=self.environ, capture_output=True, text=True, timeout=90
            )
            if done.returncode != 0:
                break
        return done

    def __exit__(self, *problem: object) -> None:
        self.stop()
        self.held.close()
        self.notifications.close()


def listening_socket(address: str) -> socket.socket:
    """The socket of `ListenStream=`."""
    if address.startswith("/"):
        held = socket.socket(socket.AF_UNIX)
        held.bind(address)
        held.listen(2048)
        return held
    host, _, port = address.rpartition(":")
    return socket.create_server((host, int(port)), backlog=2048)


@contextlib.contextmanager
def activated_by_systemd(
    program: str, address: str, command: list[str], cwd: Path, environ: Mapping[str, str]
) -> Iterator[ServerProcess]:
    """systemd-socket-activate itself: it starts the command at the first connection."""
    passed = [f"--setenv={name}={value}" for name, value in {**os.environ, **environ}.items()]
    server = ServerProcess([program, f"--listen={address}", *passed, *command], cwd=cwd)
    with server:
        server.wait_for_output("Listening on")
        yield server
