"""Record what the tutorial's commands print: python docs/tutorial/record.py

Runs them in an empty folder, in the order of the tutorial, on a terminal of
their own, and writes each command with its output into docs/tutorial/output/,
where the pages include them. Needs Debian's package python3-doc.
"""

import os
import pty
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

OUTPUT = Path(__file__).parent / "output"
LIBRARY = "/usr/share/doc/python3-doc/html"
SERVE = (
    "gunicorn -k nti.appserver.gunicorn.GeventApplicationWorker nti.appserver.gunicorn:app"
    " -b 127.0.0.1:8081"
)
SEARCH = "http://127.0.0.1:8081/library/tutorial/Search/list%20comprehension?count=1"

#: Each file, and the commands that it shows.
BEFORE = {
    "pages": [
        f"export NTI_APPSERVER_LIBRARY={LIBRARY}",
        "find -L $NTI_APPSERVER_LIBRARY -name '*.html' | wc -l",
        "du -shL $NTI_APPSERVER_LIBRARY",
    ],
    "index": ["nti-appserver index"],
    "var": ["du -sh var"],
    "again": ["nti-appserver index"],
}
WHILE_SERVING = {
    "search": [f"curl -s '{SEARCH}' | python3 -m json.tool | head -19"],
    "time": [f"curl -s -o /dev/null -w '%{{time_total}} s\\n' '{SEARCH}'"],
    "link": ["ls -l var/sign-in", "cat var/sign-in"],
}

#: Stands in the output for the temporary folder in which it was recorded.
READERS_FOLDER = "/home/you/reader"

#: Longest time that a command or the server's start may take, in seconds.
PATIENCE = 180.0


class Terminal:
    """A command on a terminal of its own, and everything that it prints there."""

    def __init__(self, command: str, folder: str) -> None:
        environ = {**os.environ, "NTI_APPSERVER_LIBRARY": LIBRARY, "TERM": "dumb", "COLUMNS": "90"}
        # gunicorn's control socket is one for each user, and a site may be running here.
        environ["GUNICORN_CMD_ARGS"] = "--no-control-socket"
        environ["PATH"] = f"{Path(sys.executable).parent}:{environ['PATH']}"
        master, slave = pty.openpty()
        self.process = subprocess.Popen(
            ["bash", "-c", command],
            cwd=folder,
            env=environ,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        self._master = master
        self._seen = b""

    def read_until(self, pattern: str | None) -> str:
        """Everything printed until something matches, or until the command ends."""
        deadline = time.monotonic() + PATIENCE
        while pattern is None or not re.search(pattern.encode(), self._seen):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{pattern!r} is not in {self._seen!r}")
            if not select.select([self._master], [], [], 1)[0]:
                continue
            try:
                block = os.read(self._master, 65536)
            except OSError:  # the terminal is closed: the command has ended
                break
            if not block:
                break
            self._seen += block
        return shown(self._seen.decode("utf-8", "replace"))


def shown(text: str) -> str:
    """What stands on the terminal in the end: a progress bar as it was last drawn."""
    text = re.sub(r"\x1b\[[?0-9;]*[a-zA-Z]", "", text.replace("\r\n", "\n"))
    lines = [line.rpartition("\r")[2].rstrip() for line in text.split("\n")]
    return "\n".join(line for line in lines if line) + "\n"


def record(name: str, commands: list[str], folder: str) -> None:
    """Run commands one after another and write them with what they print."""
    parts = []
    for command in commands:
        terminal = Terminal(command, folder)
        parts.append(f"$ {command}\n" + terminal.read_until(None).lstrip("\n"))
        if terminal.process.wait():
            raise SystemExit(f"{command} failed:\n{parts[-1]}")
    write(name, "".join(parts), folder)


def write(name: str, text: str, folder: str) -> None:
    """Write what was printed, as if it had been in a reader's folder."""
    OUTPUT.mkdir(exist_ok=True)
    text = text.replace(folder, READERS_FOLDER)
    (OUTPUT / f"{name}.txt").write_text(text, "utf-8")
    print(text)


def main() -> None:
    """Record everything."""
    with tempfile.TemporaryDirectory() as folder:
        for name, commands in BEFORE.items():
            record(name, commands, folder)
        server = Terminal(SERVE, folder)
        try:
            started = server.read_until(r"#token=\S+\s")
            write("start", f"$ {SERVE}\n{started}", folder)
            for name, commands in WHILE_SERVING.items():
                record(name, commands, folder)
        finally:
            os.killpg(server.process.pid, signal.SIGKILL)
            server.process.wait()


if __name__ == "__main__":
    main()
