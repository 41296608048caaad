"""Starting the real programs with rendered configurations, each in the foreground.

Runs in the process of the tests.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path

import pytest

from nti.appserver.deploy.render import render
from nti.appserver.testing.process import GUNICORN, STARTING_SECONDS, ServerProcess, wait_until

#: Programs whose tests skip even where all others must run, and why.
OPTIONAL = {
    "pound": "Debian has it from version 13 on; POUND names the program otherwise",
    "curl": "It asks by HTTP/2; what a browser does is asked apart",
}


def find(program: str) -> str | None:
    """The path of a program; for root's programs of other users too."""
    named = os.environ.get(program.upper())
    return shutil.which(named or program) or shutil.which(program, path="/usr/sbin:/usr/bin")


def need(program: str) -> str:
    """The path of a program. Without it the test skips, or fails under REQUIRE_PROXIES=1."""
    found = find(program)
    if found is not None:
        return found
    if os.environ.get("REQUIRE_PROXIES") == "1" and program not in OPTIONAL:
        pytest.fail(f"{program} is not installed")
    pytest.skip(f"{program} is not installed. {OPTIONAL.get(program, '')}")


def run(*command: object) -> subprocess.CompletedProcess[str]:
    """A command to its end, with what it printed."""
    return subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=60)


def listening(port: int) -> bool:
    """Whether a connection to this port of loopback is taken."""
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", port), 5).close()
        return True
    return False


def connect_unix(path: Path) -> HTTPConnection:
    """A connection to the HTTP server behind a unix socket, opened when it is first used."""
    return _UnixConnection("localhost", path)


class _UnixConnection(HTTPConnection):
    def __init__(self, host: str, path: Path) -> None:
        super().__init__(host, timeout=30)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def wait_for_port(server: ServerProcess, port: int) -> ServerProcess:
    """Return when the server, just started, listens; fail with its output when it has ended."""

    def listens() -> bool:
        assert server.process is not None
        assert server.process.poll() is None, server.output()
        return listening(port)

    wait_until(listens, f"{server.command[0]} listens")
    return server


def certificate(folder: Path) -> dict[str, str]:
    """A certificate for loopback, as the templates' options name its files."""
    key, crt, both = folder / "server.key", folder / "server.crt", folder / "srv_comb.pem"
    done = run(
        *(need("openssl"), "req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"),
        *("-pkeyopt", "ec_paramgen_curve:P-256", "-subj", "/CN=localhost"),
        *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
        *("-keyout", key, "-out", crt),
    )
    assert done.returncode == 0, done.stderr
    both.write_text(crt.read_text() + key.read_text())
    return {"certificate": str(crt), "key": str(key), "combined": str(both)}


def nginx_command(folder: Path, variant: str, **options: object) -> list[str]:
    """nginx with a rendered site, and all that it writes in `folder`."""
    folder.mkdir()
    text = render("nginx", variant, nginx_log=folder / "access.log", **options)
    (folder / "site.conf").write_text(text["nti-appserver.conf"])
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
    user = "user root; " if os.geteuid() == 0 else ""
    # Around the site stands what Debian's nginx.conf says, which the site must not depend on.
    around = "gzip on; sendfile on; tcp_nopush on; ssl_prefer_server_ciphers on;"
    around += "ssl_protocols TLSv1 TLSv1.1 TLSv1.2 TLSv1.3;"
    types = "types { text/css css; text/html html; }"
    (folder / "nginx.conf").write_text(
        f"{user} daemon off; pid {folder}/pid; events {{}}"
        f"http {{ {types} {paths} {around} include {folder}/site.conf; }}"
    )
    return [need("nginx"), "-e", "stderr", "-p", str(folder), "-c", f"{folder}/nginx.conf"]


def nginx(folder: Path, variant: str, **options: object) -> ServerProcess:
    return ServerProcess(nginx_command(folder, variant, **options), cwd=folder)


def nginx_version() -> str:
    """As the option --nginx-version takes it."""
    return run(need("nginx"), "-v").stderr.partition("nginx/")[2].split()[0]


def rendered(
    system: str, command: Callable[[str], list[str]], folder: Path, variant: str, **options: object
) -> ServerProcess:
    """A program that reads one rendered file, in `folder`."""
    folder.mkdir()
    name, text = next(iter(render(system, variant, **options).items()))
    (folder / name).write_text(text)
    return ServerProcess(command(str(folder / name)), cwd=folder)


def haproxy(folder: Path, variant: str, **options: object) -> ServerProcess:
    program = need("haproxy")
    return rendered(
        "haproxy", lambda f: [program, "-W", "-db", "-f", f], folder, variant, **options
    )


def pound(folder: Path, variant: str, **options: object) -> ServerProcess:
    program = need("pound")
    return rendered("pound", lambda f: [program, "-F", "-e", "-f", f], folder, variant, **options)


def stunnel(folder: Path, **options: object) -> ServerProcess:
    program = need("stunnel")
    return rendered("stunnel", lambda f: [program, f], folder, "haproxy", **options)


class Gunicorn(ServerProcess):
    """The application server by its rendered configuration, around `tests.deploy.site`.

    :param environ: settings of the package.
    """

    def __init__(self, folder: Path, variant: str, environ: dict[str, str], **options: object):
        folder.mkdir()
        text = render("gunicorn", variant, var=folder / "var", **options)["gunicorn.conf.py"]
        self.config = folder / "gunicorn.conf.py"
        self.config.write_text(text)
        settings = {
            "NTI_APPSERVER_APPLICATION": "tests.deploy.site:answer",
            "NTI_APPSERVER_NAMESPACES": "tests.deploy.site:Chat",
            "NTI_APPSERVER_STORAGE": "none",
            "PYTHONPATH": os.pathsep.join(["", *sys.path]).strip(os.pathsep),
        }
        command = [GUNICORN, "--config", str(self.config)]
        super().__init__(command, cwd=folder, environ={**settings, **environ})
        #: Where it listens, as `socket.connect` takes it.
        self.address: str | tuple[str, int] = str(options.get("socket", ""))
        if "listen" in options:
            host, _, port = str(options["listen"]).partition(":")
            self.address = (host, int(port))

    def start(self) -> "Gunicorn":
        """Start, and return when a worker answers."""
        super().start()
        wait_until(self.answers, "gunicorn answers", seconds=STARTING_SECONDS)
        return self

    def answers(self) -> bool:
        """Whether a worker answers; fails when gunicorn has ended."""
        assert self.process is not None
        assert self.process.poll() is None, self.output()
        family = socket.AF_UNIX if isinstance(self.address, str) else socket.AF_INET
        with socket.socket(family) as connection, contextlib.suppress(OSError):
            connection.settimeout(5)
            connection.connect(self.address)
            connection.sendall(b"GET /_ops/ping HTTP/1.0\r\n\r\n")
            return b" 200 " in connection.recv(100)
        return False
