"""`nti-appserver pack` while a site goes on serving from the same storage."""

import os
import pty
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from persistent.mapping import PersistentMapping
from ZODB.blob import Blob
from ZODB.FileStorage import FileStorage

from nti.appserver.settings import MIB, Settings
from nti.appserver.storage import open_database
from nti.appserver.testing.postgresql import PostgreSQL
from nti.appserver.testing.zeo import ZEOServer
from tests.storage.sites import Site

COMMAND = Path(sys.executable).with_name("nti-appserver")

REVISIONS = 100
CONTENT = "x" * 100_000


def fill(storage: str, folder: Path) -> None:
    """Old revisions of one object, and a blob that nothing refers to any more."""
    database = open_database(storage, Settings(var=str(folder / "var")))
    for number in range(REVISIONS):
        with database.transaction() as connection:
            root = connection.root()
            root.setdefault("old", PersistentMapping())["content"] = f"{number}{CONTENT}"
            root["blob"] = Blob(b"a blob") if number == 0 else None
    database.close()


#: Where each kind keeps the files of blobs; PostgreSQL has them in the database.
BLOBS = {"embedded": "var/blobs", "zeo": "zeo/blobs", "sqlite": "objects/blobs"}


def packed(storage: str, folder: Path, meanwhile: Callable[[], object]) -> str:
    """What the command prints on a terminal; `meanwhile` is called until it ends."""
    command = [str(COMMAND), "pack", "--storage", storage, "--var", str(folder / "var")]
    outer, inner = pty.openpty()
    with subprocess.Popen(command, stdin=inner, stdout=inner, stderr=inner) as process:
        os.close(inner)
        while process.poll() is None:
            meanwhile()
        printed = b""
        try:
            while piece := os.read(outer, 65536):
                printed += piece
        except OSError:
            pass  # the terminal's other end is closed
        os.close(outer)
    assert process.returncode == 0, printed.decode()
    return printed.decode()


@pytest.mark.parametrize(
    "kind",
    [
        "embedded",
        "sqlite",
        pytest.param("zeo", marks=pytest.mark.soak),
        pytest.param("postgresql", marks=pytest.mark.postgresql),
    ],
)
def test_the_site_goes_on_meanwhile(kind: str, tmp_path: Path) -> None:
    with ExitStack() as stack:
        storage = kind
        if kind == "zeo":
            storage = stack.enter_context(ZEOServer(tmp_path / "zeo")).uri
        elif kind == "sqlite":
            storage = f"sqlite://{tmp_path}/objects"
        elif kind == "postgresql":
            storage = stack.enter_context(PostgreSQL()).zodburi()
        site = stack.enter_context(Site(tmp_path, storage=storage, storage_timeout="30"))
        site.wait_until_serving()
        assert site.post() == 1
        fill(storage, tmp_path)
        answers = []
        printed = packed(storage, tmp_path, lambda: answers.append(site.post()))
        assert "Packing" in printed
        assert " MiB before, " in printed
        # Every request meanwhile has counted.
        assert answers == list(range(2, len(answers) + 2))
        assert site.post() == len(answers) + 2
        if kind in BLOBS:
            assert (tmp_path / BLOBS[kind]).exists()
            assert not list((tmp_path / BLOBS[kind]).rglob("*.blob"))
        # A database keeps the room for itself.
        if kind in ("embedded", "zeo"):
            assert size(storage, tmp_path) < 2 * MIB
            assert (tmp_path / "var/Data.fs.old").exists() is False


def size(storage: str, folder: Path) -> int:
    """Of a storage, in bytes, as one more client sees it."""
    database = open_database(storage, Settings(var=str(folder / "var")))
    try:
        return int(database.getSize())
    finally:
        database.close()


def test_a_file_that_a_site_has_open_is_not_packed(tmp_path: Path) -> None:
    storage = f"file://{tmp_path}/Data.fs"
    with Site(tmp_path, storage=storage) as site:
        site.wait_until_serving()
        done = subprocess.run(
            [str(COMMAND), "pack", "--storage", storage, "--var", str(tmp_path / "var")],
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "NTI_APPSERVER_STORAGE_WAIT": "1"},
        )
        assert done.returncode == 1
        assert "belongs to another process" in done.stderr


@pytest.mark.parametrize("storage", ["embedded", "file://Data.fs"])
def test_where_there_is_no_database_none_is_made(storage: str, tmp_path: Path) -> None:
    """As in a folder that is not the site's: success there would hide that nothing is packed."""
    done = subprocess.run(
        [str(COMMAND), "pack", "--storage", storage],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "there is no database" in done.stderr
    assert "name the site's var with --var" in done.stderr
    assert not list(tmp_path.rglob("Data.fs*"))


def test_what_the_file_of_the_site_names_is_packed(tmp_path: Path) -> None:
    ini = tmp_path / "site.ini"
    ini.write_text(
        f"[app:main]\nuse = egg:nti.appserver\nappserver.storage = file://{tmp_path}/ours/Data.fs\n"
    )
    (tmp_path / "ours").mkdir()
    FileStorage(str(tmp_path / "ours" / "Data.fs")).close()
    command = [str(COMMAND), "pack", "--config", str(ini)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "MiB after" in done.stdout
    assert not (tmp_path / "var").exists()
    other = subprocess.run([*command[:-1], f"{ini}#other"], capture_output=True, text=True)
    assert other.returncode == 1
    assert "cannot be read" in other.stderr
    assert "Traceback" not in other.stderr
