"""Servers of tests/http/apps.py."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from nti.appserver.testing.process import GunicornProcess

ROOT = Path(__file__).parents[2]

#: Starts a server: gunicorn's options, and settings by their names in the environment.
Starter = Callable[..., GunicornProcess]


def _starter(folders: Callable[[], Path], stack: ExitStack) -> Starter:
    def start(*options: str, **settings: str) -> GunicornProcess:
        environ = {f"NTI_APPSERVER_{name.upper()}": value for name, value in settings.items()}
        options = ("--pythonpath", str(ROOT), *options)
        process = GunicornProcess("tests.http.apps:app", *options, cwd=folders(), environ=environ)
        return stack.enter_context(process)

    return start


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Starter]:
    """Starts servers that serve until the module's tests are done."""
    with ExitStack() as stack:
        yield _starter(lambda: tmp_path_factory.mktemp("server"), stack)


@pytest.fixture(scope="module")
def server(start: Starter) -> GunicornProcess:
    """With two listeners: a TCP port, and the unix socket `http.sock` in its folder."""
    return start("-b", "unix:http.sock", "--keep-alive", "30").wait_until_serving()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate for localhost, and its key."""
    folder = tmp_path_factory.mktemp("certificate")
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run([*command, "-keyout", key, "-out", cert], check=True, capture_output=True)
    return cert, key
