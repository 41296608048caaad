"""A library's files: what is listed, what is opened, and that nothing leads out."""

import errno
import os
import socket
from pathlib import Path

import pytest

from nti.appserver.dataserver.library.files import Library, NotInLibrary, unit_of
from nti.appserver.errors import ConfigurationError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A library beside a file that is none of its business."""
    (tmp_path / "secret.html").write_text("secret")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "page.html").write_text("secret")
    root = tmp_path / "library"
    (root / "unit" / "nested").mkdir(parents=True)
    (root / "unit" / "page.html").write_text("page")
    (root / "unit" / "nested" / "Deep.HTM").write_text("deep")
    (root / "style.css").write_text("css")
    (root / ".hidden").mkdir()
    (root / ".hidden" / "page.html").write_text("hidden")
    (root / "unit" / ".page.html").write_text("hidden")
    return root


def content(library: Library, path: str) -> str:
    with library.open(path).file as file:
        return file.read().decode()


def test_pages_are_listed_folder_by_folder(root: Path) -> None:
    found = [page.path for page in Library(root).pages()]
    assert found == ["unit/page.html", "unit/nested/Deep.HTM"]
    assert [unit_of(path) for path in found] == ["unit", "unit/nested"]


def test_a_folder_that_cannot_be_read_is_left_out(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Anyone's files may have other people's among them; what can be read is listed."""
    scandir = os.scandir

    def locked(folder: str | Path) -> object:
        if os.fspath(folder).endswith("nested"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", locked)
    library = Library(root)
    for _ in range(2):
        assert [page.path for page in library.pages()] == ["unit/page.html"]
    assert [record.getMessage() for record in caplog.records] == [
        f"{root}/unit/nested is left out: Permission denied"
    ]


def test_a_folder_with_the_name_of_searches_has_no_pages(root: Path) -> None:
    """Their address would ask for a search."""
    before = list(Library(root).pages())
    (root / "unit" / "Search").mkdir()
    (root / "unit" / "Search" / "page.html").write_text("page")
    assert list(Library(root).pages()) == before


def test_a_file_inside_is_opened(root: Path) -> None:
    library = Library(root)
    assert content(library, "unit/page.html") == "page"
    assert content(library, "style.css") == "css"
    assert library.is_folder("unit/nested")
    assert library.is_folder("")
    assert not library.is_folder("style.css")


@pytest.mark.parametrize(
    "path",
    [
        "../secret.html",
        "unit/../../secret.html",
        "unit/..",
        "./unit/page.html",
        "/etc/passwd",
        "//etc/passwd",
        "unit//page.html",
        "unit/page.html/",
        "unit",
        "",
        "absent.html",
        "unit/.page.html",
        ".hidden/page.html",
        "unit/page.html\0.css",
        "unit\\page.html",
        "x" * 5000,
        "a/" * 400 + "a",
        "\udce9.html",
    ],
)
def test_what_is_not_a_file_of_the_library_is_not_opened(root: Path, path: str) -> None:
    with pytest.raises(NotInLibrary):
        Library(root).open(path)


def test_links_that_leave_are_refused_and_links_that_stay_work(root: Path) -> None:
    (root / "out.html").symlink_to("../secret.html")
    (root / "away").symlink_to(root.parent / "outside")
    (root / "loop.html").symlink_to("loop.html")
    (root / "dangling.html").symlink_to("nowhere.html")
    (root / "same.html").symlink_to("unit/page.html")
    (root / "again").symlink_to("unit")
    library = Library(root)
    for path in ("out.html", "away/page.html", "loop.html", "dangling.html"):
        with pytest.raises(NotInLibrary):
            library.open(path)
    assert content(library, "same.html") == "page"
    assert content(library, "again/page.html") == "page"
    assert not library.is_folder("away")
    listed = {page.path for page in library.pages()}
    assert listed == {"same.html", "unit/page.html", "unit/nested/Deep.HTM"}


def test_a_folder_swapped_for_a_link_while_opening_is_no_way_out(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = Library(root)
    resolve = Path.resolve

    def resolve_then_swap(self: Path, strict: bool = False) -> Path:
        resolved = resolve(self, strict)
        if resolved.name == "page.html":
            (root / "unit").rename(root / "was-unit")
            (root / "unit").symlink_to(root.parent / "outside")
        return resolved

    monkeypatch.setattr(Path, "resolve", resolve_then_swap)
    with pytest.raises(NotInLibrary):
        library.open("unit/page.html")


def test_only_plain_files_are_opened_and_nothing_waits(root: Path) -> None:
    os.mkfifo(root / "pipe.html")
    with socket.socket(socket.AF_UNIX) as listener:
        folder = os.open(root, os.O_RDONLY)
        try:
            listener.bind(f"/proc/self/fd/{folder}/socket.html")
        finally:
            os.close(folder)
        library = Library(root)
        for path in ("pipe.html", "socket.html"):
            with pytest.raises(NotInLibrary):
                library.open(path)
        assert "pipe.html" not in [page.path for page in library.pages()]


def test_no_descriptor_is_left_open(root: Path) -> None:
    library = Library(root)
    before = len(os.listdir("/proc/self/fd"))
    for path in ("absent.html", "unit", "../secret.html", "unit/page.html/"):
        with pytest.raises(NotInLibrary):
            library.open(path)
    library.is_folder("unit")
    library.open("unit/page.html").file.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_library_itself_may_be_a_link(root: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(root)
    assert content(Library(tmp_path / "link"), "style.css") == "css"


def test_a_library_that_is_no_folder_is_a_mistake_of_the_operator(root: Path) -> None:
    for wrong in (root / "style.css", root / "absent"):
        with pytest.raises(ConfigurationError, match=r"setting library is .* expected a folder"):
            Library(wrong)
