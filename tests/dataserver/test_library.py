"""/library over WSGI: units, files, validators, ranges, sandbox, search."""

import html.parser
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from webtest import TestApp

from tests.dataserver.conftest import PAGES

HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
LION = "/library/cats/lions.html"


def test_units_as_json(app: TestApp, index: Callable[..., Any]) -> None:
    index()
    resource = app.get("/library").json
    units = {unit["unit"]: (unit["title"], unit["pages"]) for unit in resource["Items"]}
    assert units == {
        "": ("The shelf", 1),
        "cats": ("Cats", 2),
        "cats/small": ("small", 1),
        "dogs": ("dogs", 1),
    }
    assert resource["Items"][2]["search"] == "/library/cats/small/Search/"


def test_units_as_html(app: TestApp, index: Callable[..., Any]) -> None:
    index()
    response = app.get("/library", headers=HTML)
    assert response.content_type == "text/html"
    assert '<a href="/library/cats/">Cats</a>' in response.text
    assert "Accept" in response.headers["Vary"]


def test_a_unit_is_its_index_page_or_its_list(app: TestApp) -> None:
    assert app.get("/library/cats/", headers=HTML).text == PAGES["cats/index.html"]
    assert app.get("/library/cats/small/", headers=HTML).text == PAGES["cats/small/tabby.html"]
    pages = app.get("/library/cats/").json
    assert [page["page"] for page in pages["Items"]] == ["cats/index.html", "cats/lions.html"]
    first = app.get("/library/cats/?count=1").json
    assert [page["page"] for page in first["Items"]] == ["cats/index.html"]
    second = app.get(first["Links"][0]["href"]).json
    assert [page["page"] for page in second["Items"]] == ["cats/lions.html"]


def test_a_folder_without_its_slash_is_elsewhere(app: TestApp) -> None:
    response = app.get("/library/cats", status=301)
    assert response.location == "http://localhost/library/cats/"


def test_a_file_as_it_is(app: TestApp) -> None:
    response = app.get(LION)
    assert response.text == PAGES["cats/lions.html"]
    assert response.content_type == "text/html"
    assert response.headers["Content-Security-Policy"] == "sandbox allow-scripts"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Accept-Ranges"] == "bytes"
    assert app.get("/library/style.css").headers["Content-Type"] == "text/css; charset=utf-8"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.js", "text/javascript"),
        ("a.svg", "image/svg+xml"),
        ("a.woff2", "font/woff2"),
        ("a.PNG", "image/png"),
        ("a.json", "application/json"),
        ("a.tar.gz", "application/gzip"),
        ("a.unheard-of", "application/octet-stream"),
        ("a", "application/octet-stream"),
    ],
)
def test_types_and_the_sandbox_is_around_every_file(
    app: TestApp, library: Path, name: str, kind: str
) -> None:
    (library / name).write_bytes(b"x")
    response = app.get(f"/library/{name}")
    assert response.content_type == kind
    assert response.headers["Content-Security-Policy"] == "sandbox allow-scripts"
    assert "Content-Encoding" not in response.headers


def test_conditional_requests(app: TestApp, library: Path) -> None:
    first = app.get(LION)
    etag = first.headers["ETag"]
    assert etag.startswith('"')
    assert app.get(LION, headers={"If-None-Match": etag}, status=304).body == b""
    assert app.get(LION, headers={"If-None-Match": f'"other", W/{etag}'}, status=304)
    since = {"If-Modified-Since": first.headers["Last-Modified"]}
    assert app.get(LION, headers=since, status=304)
    os.utime(library / "cats" / "lions.html", (10, 10))
    assert app.get(LION, headers={"If-None-Match": etag}, status=200).headers["ETag"] != etag


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("bytes=0-3", 0, 4),
        ("bytes=5-", 5, None),
        ("bytes=-7", -7, None),
        ("bytes=2-99999", 2, None),
    ],
)
def test_a_range(app: TestApp, asked: str, start: int, stop: int | None) -> None:
    whole = PAGES["cats/lions.html"].encode()
    response = app.get(LION, headers={"Range": asked}, status=206)
    assert response.body == whole[start:stop]
    assert response.headers["Content-Length"] == str(len(response.body))
    assert response.headers["Content-Range"].endswith(f"/{len(whole)}")
    assert response.headers["Content-Security-Policy"] == "sandbox allow-scripts"


def test_a_range_that_is_not_there_and_one_of_another_version(app: TestApp) -> None:
    assert app.get(LION, headers={"Range": "bytes=99999-"}, status=416)
    stale = {"Range": "bytes=0-3", "If-Range": '"another"'}
    assert app.get(LION, headers=stale, status=200).text == PAGES["cats/lions.html"]


def test_head_has_the_headers_alone(app: TestApp) -> None:
    response = app.head(LION)
    assert response.body == b""
    assert response.headers["Content-Length"] == str(len(PAGES["cats/lions.html"]))


def test_the_readers_frame_gets_its_script_and_another_validator(app: TestApp) -> None:
    plain, framed = app.get(LION), app.get(f"{LION}?frame")
    assert framed.text.startswith(plain.text)
    assert (
        framed.text.removeprefix(plain.text).strip() == '<script src="/static/frame.js"></script>'
    )
    assert framed.headers["ETag"] != plain.headers["ETag"]
    assert framed.headers["Content-Security-Policy"] == "sandbox allow-scripts"
    last = app.get(f"{LION}?frame", headers={"Range": "bytes=-12"}, status=206)
    assert last.body == framed.body[-12:]
    assert app.get("/library/style.css?frame").text == PAGES["style.css"]


@pytest.mark.parametrize(
    "path",
    [
        "/library/../secret",
        "/library/%2e%2e/secret",
        "/library/cats/..%2f..%2fsecret",
        "/library/%2fetc%2fpasswd",
        "/library/cats/.hidden",
        "/library/cats/%00lions.html",
        "/library/absent/",
        "/library/absent.html",
        "/library/cats/lions.html/",
        "/library/" + "x" * 3000,
        "/library/absent/Search/cat",
        "/library/../Search/cat",
    ],
)
def test_nothing_else_is_there(app: TestApp, library: Path, path: str) -> None:
    (library.parent / "secret").write_text("secret")
    response = app.get(path, status=404)
    assert response.content_type == "application/problem+json"
    assert "secret" not in response.json["detail"]


def test_a_link_that_leaves_the_library(app: TestApp, library: Path) -> None:
    (library.parent / "secret.html").write_text("secret")
    (library / "out.html").symlink_to(library.parent / "secret.html")
    assert app.get("/library/out.html", status=404)


def test_an_address_that_is_not_utf_8(app: TestApp) -> None:
    assert "UTF-8" in app.get("/library/%ff%fe.html", status=400).json["detail"]
    assert app.get("/library/Search/a?start=%ff", status=400)


def test_names_that_need_quoting(app: TestApp, library: Path, index: Callable[..., Any]) -> None:
    name = 'an odd & "näme" <b> #1?.html'
    (library / name).write_text("<p>ocelot</p>")
    index()
    [hit] = app.get("/library/Search/ocelot").json["Items"]
    assert app.get(hit["href"]).text == "<p>ocelot</p>"
    assert hit["title"] == name


def test_search_as_json(app: TestApp, index: Callable[..., Any]) -> None:
    index()
    found = app.get("/library/cats/Search/cat?count=2").json
    assert (found["query"], found["unit"], found["total"]) == ("cat", "cats", 3)
    assert len(found["Items"]) == 2
    [following] = found["Links"]
    assert following["rel"] == "next"
    rest = app.get(following["href"]).json
    assert len(rest["Items"]) == 1
    assert [link["rel"] for link in rest["Links"]] == ["prev"]


def test_search_finds_a_term_with_a_slash_and_other_scripts(
    app: TestApp, library: Path, index: Callable[..., Any]
) -> None:
    (library / "io.html").write_text("<p>read/write Übung</p>", "utf-8")
    index()
    assert app.get("/library/Search/read/write").json["query"] == "read/write"
    assert app.get("/library/Search/read%2Fwrite").json["total"] == 1
    assert app.get("/library/Search/%C3%BCbung").json["total"] == 1


class Tags(html.parser.HTMLParser):
    """The elements of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags |= {tag} | {f"{tag}[{name}]" for name, _ in attrs}


def test_no_markup_comes_out_of_pages_or_queries(
    app: TestApp, library: Path, index: Callable[..., Any]
) -> None:
    evil = "&lt;script&gt;alert(1)&lt;/script&gt; &lt;img src=x onerror=alert(1)&gt; ocelot"
    (library / "evil.html").write_text(
        f"<title>t</title><h1 id='\"><script>alert(1)</script>'>{evil}</h1><p>{evil}</p>"
    )
    index()
    query = "/library/Search/ocelot%20OR%20%3Cscript%3Ealert(1)%3C/script%3E"
    for path in (query, "/library/", "/library", "/library/Search/%3Cscript%3E(", "/library/<b>"):
        response = app.get(path, headers=HTML, status="*")
        if response.headers["Content-Security-Policy"] == "sandbox allow-scripts":
            continue  # the library's own index page
        tags = Tags(response.text).tags
        assert not tags & {"script", "img", "b"}
        assert not [tag for tag in tags if "[on" in tag]
        assert "script-src" not in response.headers["Content-Security-Policy"]
        assert "default-src 'none'" in response.headers["Content-Security-Policy"]


def test_search_as_html_marks_the_words(app: TestApp, index: Callable[..., Any]) -> None:
    index()
    text = app.get("/library/Search/zebras", headers=HTML).text
    assert "hunt &lt;<mark>zebras</mark>&gt;" in text
    assert '<a href="/library/cats/lions.html#prides">Lions</a>' in text


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/library/Search/", "empty"),
        ("/library/Search/" + "x" * 300, "300 characters"),
        ("/library/Search/(cat", "not well formed"),
        ("/library/Search/cat?count=0", "from 1 to 100"),
        ("/library/Search/cat?count=101", "from 1 to 100"),
        ("/library/Search/cat?start=-1", "from 0 to"),
        ("/library/Search/cat?start=1e9", "start"),
        ("/library/Search/cat?start=999999999999999999999", "start"),
        ("/library/Search/cat?start=%D9%A1", "start"),
    ],
)
def test_bad_searches_are_told_why(app: TestApp, path: str, told: str) -> None:
    problem = app.get(path, status=400)
    assert problem.content_type == "application/problem+json"
    assert told in problem.json["detail"]
    page = app.get(path, headers=HTML, status=400)
    assert page.content_type == "text/html"


def test_other_methods_change_nothing(app: TestApp, library: Path) -> None:
    for method in ("POST", "PUT", "DELETE"):
        response = app.request(LION, method=method, status=405)
        assert response.headers["Allow"] == "GET, HEAD"
        assert f"The method is {method!r}" in response.json["detail"]
    assert (library / "cats" / "lions.html").read_text() == PAGES["cats/lions.html"]


def test_reading_writes_nothing(app: TestApp, database: Any) -> None:
    """Not even the first request to a new database, which finds no site in it."""
    before = database.lastTransaction()
    for path in ("/", "/library", "/library/cats/", "/library/Search/cat", "/dataserver2"):
        assert app.get(path, status=200)
    assert app.get("/dataserver2/session").json["name"] is None
    assert app.get("/dataserver2/notes?page=index.html").json["total"] == 0
    assert database.lastTransaction() == before
