"""The page at `/`: its files, and that nothing in it could run another's script."""

import re
from importlib.resources import files

import pytest
from webtest import TestApp

STATIC = files("nti.appserver.dataserver") / "static"
SCRIPTS = sorted(path.name for path in (STATIC / "app").iterdir())


def directives(policy: str) -> dict[str, str]:
    return dict(part.strip().partition(" ")[::2] for part in policy.split(";"))


def test_the_page_and_its_policy(app: TestApp) -> None:
    response = app.get("/")
    assert response.content_type == "text/html"
    policy = directives(response.headers["Content-Security-Policy"])
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    assert "unsafe" not in response.headers["Content-Security-Policy"]
    assert app.get("/", headers={"If-None-Match": response.headers["ETag"]}, status=304)


def test_everything_that_the_page_names_is_served(app: TestApp) -> None:
    page = app.get("/").text
    named = set(re.findall(r'(?:src|href)="(/[^"]*)"', page))
    assert "/static/app/main.js" in named
    for path in named:
        app.get(path, status=200)


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_import_of_a_script_is_served(app: TestApp, name: str) -> None:
    response = app.get(f"/static/app/{name}")
    assert response.content_type in ("text/javascript", "application/javascript")
    for path in re.findall(r'from "\./([^"]+)"', response.text):
        app.get(f"/static/app/{path}", status=200)
    for path in re.findall(r'from "\.\./([^"]+)"', response.text):
        app.get(f"/static/{path}", status=200)


@pytest.mark.parametrize("name", [*SCRIPTS, "../frame.js", "../index.html"])
def test_no_script_makes_markup_of_text(name: str) -> None:
    """The page's policy forbids inline scripts; its own scripts only ever make text nodes."""
    source = (STATIC / "app" / name).read_text("utf-8")
    forbidden = (
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|srcdoc"
    )
    assert not re.search(forbidden, source)
    assert not re.search(r"<[a-z]+[^>]* on[a-z]+=|<[a-z]+[^>]* style=|<script>", source)


def test_the_frame_has_no_more_than_scripts() -> None:
    page = (STATIC / "index.html").read_text("utf-8")
    [sandbox] = re.findall(r'<iframe[^>]* sandbox="([^"]*)"', page)
    assert sandbox == "allow-scripts"


def test_the_client_of_socket_io_has_its_licence() -> None:
    assert "MIT" in (STATIC / "vendor" / "socket.io-client.LICENSE").read_text("utf-8")
    assert "Socket.IO v4" in (STATIC / "vendor" / "socket.io.esm.min.js").read_text("utf-8")


def test_the_sample_is_a_library_that_works(database: object) -> None:
    from nti.appserver.dataserver import open_library
    from nti.appserver.dataserver.library.indexing import IndexRun
    from nti.appserver.dataserver.site import get_site
    from nti.appserver.settings import load_settings
    from nti.appserver.transactions import run

    library = open_library(load_settings())
    assert IndexRun(library)().total == 4
    [hit] = run(lambda: get_site().index.search("Wiles")).items
    assert hit.path == "marginalia/fermat.html"


def test_the_links_of_the_sample_lead_somewhere() -> None:
    sample = files("nti.appserver.dataserver") / "sample" / "marginalia"
    for page in sample.iterdir():
        for link in re.findall(r'href="([^"#]+)"', page.read_text("utf-8")):
            assert sample.joinpath(link).is_file(), f"{page.name} links to {link}"
