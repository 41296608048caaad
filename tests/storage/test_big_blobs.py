"""A blob of 300 MB goes up and down through a worker, which never has it in memory."""

import hashlib
import http.client
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import psutil
import pytest

from nti.appserver.settings import MIB
from nti.appserver.testing.postgresql import PostgreSQL
from nti.appserver.testing.zeo import ZEOServer
from tests.storage.sites import Site, servers

SOURCE = """
from ZODB.blob import Blob
from nti.appserver.transactions import connection

PIECE = 65536

def answer(environ, start_response):
    root = connection().root()
    if environ["REQUEST_METHOD"] == "PUT":
        blob = root["blob"] = Blob()
        with blob.open("w") as writing:
            while piece := environ["wsgi.input"].read(PIECE):
                writing.write(piece)
        start_response("204 No Content", [])
        return []
    reading = root["blob"].open("r")
    start_response("200 OK", [("Content-Type", "application/octet-stream")])
    return environ["wsgi.file_wrapper"](reading, PIECE)

def main():
    return answer
"""

SIZE = 300 * MIB
PIECE = bytes(range(256)) * 4096

#: What a process may have at its peak beyond what it had before.
ALLOWED = 30 * MIB

#: RelStorage sends pieces of 9 MiB, and has each of them several times over while it is quoted.
ALLOWED_BY_RELSTORAGE = 130 * MIB


def peak(pid: int) -> int:
    """The most memory that a process has ever had in RAM, in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


def pieces(digest: "hashlib._Hash") -> Iterator[bytes]:
    for _ in range(SIZE // len(PIECE)):
        digest.update(PIECE)
        yield PIECE


def upload(site: Site) -> str:
    digest = hashlib.sha256()
    with closing(http.client.HTTPConnection("127.0.0.1", site.port, timeout=300)) as connection:
        headers = {"Content-Length": str(SIZE)}
        connection.request("PUT", "/", body=pieces(digest), headers=headers)
        answer = connection.getresponse()
        assert answer.status == 204, answer.read()
    return digest.hexdigest()


def download(site: Site) -> str:
    digest = hashlib.sha256()
    with closing(http.client.HTTPConnection("127.0.0.1", site.port, timeout=300)) as connection:
        connection.request("GET", "/")
        answer = connection.getresponse()
        assert answer.status == 200
        while piece := answer.read(MIB):
            digest.update(piece)
    return digest.hexdigest()


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("embedded"),
        pytest.param("file", marks=pytest.mark.soak),
        pytest.param("zeo", marks=pytest.mark.soak),
        pytest.param("postgresql", marks=[pytest.mark.soak, pytest.mark.postgresql]),
    ],
)
def test_a_big_blob_passes_in_pieces(kind: str, tmp_path: Path) -> None:
    with ExitStack() as stack:
        storage, others = kind, []
        if kind == "file":
            storage = f"file://{tmp_path}/Data.fs"
        elif kind == "zeo":
            server = stack.enter_context(ZEOServer(tmp_path / "zeo"))
            storage, others = server.uri, [server.pid]
        elif kind == "postgresql":
            storage = stack.enter_context(PostgreSQL()).zodburi()
        options = {"storage": storage, "request_deadline": "300", "storage_timeout": "60"}
        # A fresh worker for the download, so that nothing is in a cache of the first.
        for go in (upload, download):
            with Site(tmp_path, "--timeout", "300", source=SOURCE, **options) as site:
                site.wait_until_serving()
                watched = [*site.workers(), *others]
                watched += [each.pid for each in servers(tmp_path)]
                before = {pid: peak(pid) for pid in watched}
                digest = go(site)
                grown = {
                    f"{psutil.Process(pid).name()} {pid}": peak(pid) - before[pid]
                    for pid in watched
                }
                allowed = ALLOWED_BY_RELSTORAGE if kind == "postgresql" else ALLOWED
                assert max(grown.values()) < allowed, (go.__name__, grown)
            if go is upload:
                uploaded = digest
        assert digest == uploaded
