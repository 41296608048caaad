"""The default application as it is served: live events, sign-in, indexing beside the site."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from nti.appserver.testing.process import GunicornProcess, ServerProcess, wait_until
from nti.appserver.testing.socketio import SocketIO

PAGE = "marginalia/fermat.html"
NOTES = "/dataserver2/notes"

COMMAND = str(Path(sys.executable).with_name("nti-appserver"))


class Client:
    """A signed-in client with a bearer token."""

    def __init__(self, server: GunicornProcess) -> None:
        self.server = server
        self.bearer = ""

    def send(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """The answer from JSON; an HTTPError for 4xx and 5xx."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.bearer:
            given["Authorization"] = f"Bearer {self.bearer}"
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            given["Content-Type"] = "application/json"
        request = urllib.request.Request(
            self.server.url + path, data=data, method=method, headers=given
        )
        with urllib.request.urlopen(request, timeout=30) as response:
            content = response.read()
        return json.loads(content) if content else None

    def sign_in(self, name: str) -> None:
        file = self.server.cwd / "var" / "sign-in"
        wait_until(file.exists, "the sign-in link is there")
        token = file.read_text().strip().partition("#token=")[2]
        body = {"token": token, "name": name, "bearer": True}
        self.bearer = self.send("POST", "/dataserver2/session", body)["bearer"]

    def write(self, text: str) -> Any:
        return self.send("POST", NOTES, {"page": PAGE, "text": text})


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GunicornProcess]:
    """The sample library, served as the one command does."""
    with GunicornProcess(cwd=tmp_path_factory.mktemp("site")) as process:
        yield process.wait_until_serving()


@pytest.fixture(scope="module")
def client(server: GunicornProcess) -> Client:
    client = Client(server)
    client.sign_in("Ada")
    return client


@pytest.mark.parametrize("transport", ["polling", "websocket", "upgrade"])
def test_each_change_reaches_the_pages_readers(
    server: GunicornProcess, client: Client, transport: str
) -> None:
    with (
        SocketIO(server.url, "/notes", transport=transport) as reader,
        SocketIO(server.url, "/notes", transport=transport) as elsewhere,
    ):
        assert reader.call("watch", PAGE) == [{"page": PAGE}]
        elsewhere.call("watch", "marginalia/index.html")
        note = client.write("first")
        assert reader.wait_for("created") == (note,)
        changed = client.send("PUT", note["href"], {"text": "second"}, If_Match="*")
        assert reader.wait_for("changed") == (changed,)
        assert changed["version"] == 2
        client.send("DELETE", note["href"])
        [gone] = reader.wait_for("deleted")
        assert gone["id"] == note["id"]
        assert elsewhere.pending() == []


def test_what_is_told_can_be_read_at_once(server: GunicornProcess, client: Client) -> None:
    """The event is sent after the commit: no reader is told of a note that is not there."""
    with SocketIO(server.url, "/notes") as reader:
        reader.call("watch", PAGE)
        for number in range(10):
            client.write(f"note {number}")
        for _ in range(10):
            [note] = reader.wait_for("created")
            assert client.send("GET", note["href"]) == note


def test_many_notes_at_once_are_all_kept_and_all_told(
    server: GunicornProcess, client: Client
) -> None:
    """Those that conflict are tried again, and each is told once."""
    before = client.send("GET", f"{NOTES}?page={PAGE}")["total"]
    texts = [f"at once {number}" for number in range(40)]
    with SocketIO(server.url, "/notes") as reader, ThreadPoolExecutor(8) as pool:
        reader.call("watch", PAGE)
        written = list(pool.map(client.write, texts))
        told = [reader.wait_for("created")[0]["text"] for _ in texts]
        assert sorted(told) == sorted(texts)
        assert reader.pending() == []
    assert len({note["id"] for note in written}) == 40
    assert client.send("GET", f"{NOTES}?page={PAGE}")["total"] == before + 40


def test_one_page_at_a_time_is_watched(server: GunicornProcess, client: Client) -> None:
    with SocketIO(server.url, "/notes") as reader:
        reader.call("watch", PAGE)
        reader.call("watch", "marginalia/index.html")
        client.write("not for this reader")
        assert "error" in reader.call("watch", 3)[0]
        assert "error" in reader.call("watch", "x" * 2000)[0]
        assert reader.pending() == []


def test_the_sample_is_indexed_by_itself(server: GunicornProcess, client: Client) -> None:
    wait_until(lambda: client.send("GET", "/library")["index"]["indexed"] == 4, "four pages")
    found = client.send("GET", "/library/marginalia/Search/wiles")
    assert [hit["page"] for hit in found["Items"]] == [PAGE]


def test_the_folder_and_the_link_are_their_owners_alone(server: GunicornProcess) -> None:
    var = server.cwd / "var"
    assert var.stat().st_mode & 0o777 == 0o700
    assert (var / "sign-in").stat().st_mode & 0o777 == 0o600
    assert "token=" not in server.output()


def many_pages(folder: Path, count: int) -> Path:
    """A library that takes a while to index."""
    unit = folder / "unit"
    unit.mkdir(parents=True)
    for number in range(count):
        words = " ".join(f"word{(number * 37 + n) % 5000}" for n in range(4000))
        (unit / f"page{number:03}.html").write_text(f"<h1>Page {number}</h1><p>{words}</p>")
    return folder


def index(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    command = [COMMAND, "index", *arguments]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )


def test_a_killed_index_run_goes_on_where_it_was(tmp_path: Path) -> None:
    """SIGKILL in the middle: the pages committed until then are not read again."""
    library = many_pages(tmp_path / "library", 150)
    arguments = ("--library", str(library), "--storage", f"file://{tmp_path}/data.fs")
    command = [COMMAND, "index", *arguments]
    data = tmp_path / "data.fs"
    with ServerProcess(command, cwd=tmp_path) as process:

        def committed_a_batch_or_ended() -> bool:
            assert process.process is not None
            grown = data.exists() and data.stat().st_size > 3_000_000
            return grown or process.process.poll() is not None

        wait_until(committed_a_batch_or_ended, "a batch is committed", every=0.002)
        os.killpg(process.pid, signal.SIGKILL)
    done = index(tmp_path, *arguments)
    assert done.returncode == 0, done.stderr
    total, indexed = (int(part.split()[0]) for part in done.stdout.split(",")[:2])
    assert total == 150
    assert indexed < 150
    again = index(tmp_path, *arguments)
    assert "150 pages, 0 indexed, 0 removed" in again.stdout


def test_the_index_command_works_beside_the_site(
    server: GunicornProcess, client: Client, tmp_path: Path
) -> None:
    """Both share the embedded storage; what the command writes the site sees."""
    library = many_pages(tmp_path, 5)

    def unlocked() -> bool:
        done = index(server.cwd, "--library", str(library))
        assert "already" in done.stderr or done.returncode == 0, done.stderr
        return done.returncode == 0

    wait_until(unlocked, "the site's own run is over", every=0.5)
    wait_until(
        lambda: client.send("GET", "/library/Search/word1")["index"]["indexed"] == 5,
        "the site has heard of it",
    )
    done = index(server.cwd)  # the sample again, for the other tests
    assert "4 pages, 4 indexed, 5 removed" in done.stdout


def test_the_index_command_reads_the_sites_file(tmp_path: Path) -> None:
    library = many_pages(tmp_path / "library", 2)
    (tmp_path / "site.ini").write_text(
        f"[app:main]\nuse = egg:nti.appserver\nappserver.library = {library}\n"
        f"appserver.storage = file://{tmp_path}/data.fs\n"
    )
    done = index(tmp_path, "--config", "site.ini")
    assert "2 pages, 2 indexed" in done.stdout, done.stderr


def test_a_library_that_is_not_there_is_told(tmp_path: Path) -> None:
    done = index(tmp_path, "--library", str(tmp_path / "absent"))
    assert done.returncode == 1
    assert "setting library is" in done.stderr
    assert "Traceback" not in done.stderr
