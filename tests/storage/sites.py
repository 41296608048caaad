"""Sites of gunicorn for the tests of storages: an application that counts, and its servers."""

import contextlib
import http.client
import re
from pathlib import Path

import psutil

from nti.appserver.storage.embedded.client import SERVER
from nti.appserver.testing.process import GunicornProcess, wait_until

APPLICATION = """
from nti.appserver.transactions import connection

def count(environ, start_response):
    if environ["PATH_INFO"] == "/alive":
        start_response("200 OK", [("Content-Length", "0")])
        return []
    root = connection().root()
    if environ["REQUEST_METHOD"] == "POST":
        root["count"] = root.get("count", 0) + 1
    body = str(root.get("count", 0)).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]

def main():
    return count
"""


def servers(folder: Path) -> list[psutil.Process]:
    """The embedded servers of a site that live."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        line = process.info["cmdline"] or []
        if SERVER in line and str(folder / "var") in line:
            found.append(process)
    return [each for each in found if lives(each.pid)]


def lives(pid: int) -> bool:
    """Whether a process has not ended; one that nobody has asked for its status has."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def until_gone(folder: Path) -> None:
    wait_until(lambda: not servers(folder), "the embedded server has ended")


#: Settings of a site that does not wait long for its storage: for faults of that alone, since a
#: busy machine is slow, too.
HASTY = {"storage_timeout": "2", "request_deadline": "5"}


class Site(GunicornProcess):
    """gunicorn over an application in a folder, by default one that counts POSTs.

    :param folder: its working directory, with `var` in it.
    :param settings: of the environment.
    """

    def __init__(
        self, folder: Path, *options: str, source: str = APPLICATION, **settings: str
    ) -> None:
        (folder / "counting.py").write_text(source)
        given = {
            "application": "counting:main",
            "attempts": "20",
            **settings,
        }
        environ = {f"NTI_APPSERVER_{name.upper()}": value for name, value in given.items()}
        super().__init__("nti.appserver.gunicorn:app", *options, cwd=folder, environ=environ)

    def ask(self, method: str, path: str = "/", body: bytes = b"") -> tuple[int, bytes]:
        """Status and body of the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(connection):
            connection.request(method, path, body)
            answer = connection.getresponse()
            return answer.status, answer.read()

    def post(self) -> int:
        """Count once; the number, or 0 when the storage is away."""
        status, body = self.ask("POST")
        assert status in (200, 503), body
        return int(body) if status == 200 else 0

    def workers(self) -> list[int]:
        """The process ids of its workers that live, whichever arbiter they have."""
        found = re.findall(r"Booting worker with pid: (\d+)", self.output())
        return [int(pid) for pid in found if lives(int(pid))]
