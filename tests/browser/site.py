"""A site that a test can kill and start again on the same port, with the same data."""

import json
import os
import signal
import urllib.request
from pathlib import Path
from typing import Any

from nti.appserver.testing.process import GunicornProcess, wait_until

#: The HTML documentation of Python, as Debian's package python3-doc installs it.
PYTHON_DOC = Path("/usr/share/doc/python3-doc/html")

APP = "nti.appserver.gunicorn:app"

#: Reading and indexing 530 pages takes a while on a busy machine.
INDEX_SECONDS = 300.0


class Site:
    """The default application over a library, in a folder of its own."""

    def __init__(self, folder: Path, library: Path) -> None:
        self.folder = folder
        self.environ = {"NTI_APPSERVER_LIBRARY": str(library)}
        self.process: GunicornProcess | None = None
        self.port = 0

    def start(self) -> None:
        """Start the server; the second time, on the port of the first.

        It has two workers: the windows may be connected to different ones.
        """
        process = GunicornProcess(APP, "-w", "2", cwd=self.folder, environ=self.environ)
        if self.port:
            process.command[process.command.index(process.bind)] = f"127.0.0.1:{self.port}"
            process.port = self.port
        self.port = process.port
        self.process = process
        process.start()
        process.wait_until_serving()

    def kill(self) -> None:
        """End every process of the server as SIGKILL does, with no chance to say anything."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.stop(signal.SIGKILL)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str) -> Any:
        """What the site answers, from JSON."""
        with urllib.request.urlopen(self.url + path, timeout=30) as response:
            return json.load(response)

    def wait_until_indexed(self) -> None:
        def indexed() -> bool:
            progress = self.get("/library")["index"]
            return 0 < progress["pages"] == progress["indexed"]

        wait_until(indexed, "every page is indexed", seconds=INDEX_SECONDS, every=0.3)

    def sign_in_link(self) -> str:
        """The link that the server keeps for its operator."""
        file = self.folder / "var" / "sign-in"
        wait_until(file.exists, "the sign-in link is there")
        return self.url + "/#" + file.read_text("utf-8").strip().partition("#")[2]

    def stop(self) -> None:
        if self.process is not None:
            self.process.stop()
