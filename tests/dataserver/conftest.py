"""The default application in this process, over a database in memory."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ZODB
from webtest import TestApp, TestResponse

from nti.appserver.dataserver import main
from nti.appserver.dataserver.library.files import Library
from nti.appserver.dataserver.library.indexing import IndexRun, Summary
from nti.appserver.dataserver.site import get_site
from nti.appserver.settings import Settings, load_settings
from nti.appserver.transactions import run, use_database

PAGES = {
    "index.html": "<title>Shelf</title><h1>The shelf</h1><p>Everything about cats and dogs.</p>",
    "cats/index.html": "<h1>Cats</h1><p>A cat sleeps. The cat purrs, a cat hunts mice.</p>",
    "cats/lions.html": (
        "<title>Lions</title><h1 id='lions'>Lions</h1><p>A lion is a large cat.</p>"
        "<h2 id='prides'>Prides</h2><p>Lions live in prides &amp; hunt &lt;zebras&gt;.</p>"
    ),
    "cats/small/tabby.html": "<h1>Tabby</h1><p>A striped cat.</p>",
    "dogs/terriers.html": "<h1>Terriers</h1><p>A dog that digs. No feline here.</p>",
    "style.css": "p { color: green }",
}


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A small library on disk."""
    root = tmp_path / "library"
    for path, content in PAGES.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(content, "utf-8")
    return root


@pytest.fixture
def settings(tmp_path: Path, library: Path) -> Settings:
    return load_settings(cli={"library": str(library), "var": str(tmp_path / "var")})


@pytest.fixture
def database() -> Iterator[Any]:
    """An empty database, which this process's units of work use."""
    database = ZODB.DB(None)
    use_database(database)
    yield database
    database.close()


@pytest.fixture
def index(settings: Settings, database: Any) -> Callable[..., Summary]:
    """Bring the index up to date."""

    def index(**options: Any) -> Summary:
        return IndexRun(Library(settings.library), **options)()

    return index


@pytest.fixture
def app(settings: Settings, database: Any) -> TestApp:
    """The application, its library not indexed yet."""
    return TestApp(main({}, **{"appserver.settings": settings}))


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, str]]:
    """What was told live: the event, the note's text, the room. Only what was committed is."""
    from nti.appserver.dataserver.notes import live
    from nti.appserver.transactions import on_commit

    heard: list[tuple[str, str, str]] = []

    def emit(event: str, data: Any, *, to: str, namespace: str) -> None:
        assert namespace == "/notes"
        on_commit(heard.append, (event, data["text"], to))

    monkeypatch.setattr(live, "emit", emit)
    return heard


class Reader:
    """A client that has signed in, by cookie and CSRF token unless it has a bearer token."""

    def __init__(self, app: TestApp, session: dict[str, Any]) -> None:
        self.app = app
        self.session = session
        self.headers = {"X-CSRF-Token": session["csrf"]}
        if "bearer" in session:
            self.headers = {"Authorization": f"Bearer {session['bearer']}"}

    def send(
        self, method: str, path: str, body: Any = None, status: int | None = None, **headers: str
    ) -> TestResponse:
        """Send a request, its body as JSON; header names have underscores."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.app.request(
            path,
            method=method,
            body=b"" if body is None else json.dumps(body).encode(),
            content_type="application/json",
            headers={**self.headers, **named},
            status=status or "*",
        )

    def write(self, page: str = "cats/lions.html", text: str = "Roar", **headers: str) -> Any:
        """Write a note; its resource."""
        response = self.send("POST", "/dataserver2/notes", {"page": page, "text": text}, **headers)
        assert response.status_int == 201, response.text
        return response.json


@pytest.fixture
def sign_in(app: TestApp) -> Callable[..., Reader]:
    """Sign in: with a cookie, or as another client that has a bearer token."""

    def sign_in(name: str = "Ada", *, bearer: bool = False) -> Reader:
        token = run(lambda: get_site(create=True).door.issue_token())
        client = TestApp(app.app) if bearer else app
        body = {"token": token, "name": name, "bearer": bearer}
        session = client.post_json("/dataserver2/session", body, status=201).json
        return Reader(client, session)

    return sign_in
