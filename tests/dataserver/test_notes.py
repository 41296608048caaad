"""Notes over WSGI: the resources, their versions and bounds, and what is told live."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from webtest import TestApp

from nti.appserver.dataserver.notes import model
from nti.appserver.dataserver.notes.fields import TEXT_LIMIT
from nti.appserver.dataserver.web.negotiation import BODY_LIMIT

PAGE = "cats/lions.html"
NOTES = "/dataserver2/notes"
Told = list[tuple[str, str, str]]
SignIn = Callable[..., Any]


@pytest.fixture
def reader(sign_in: SignIn) -> Any:
    return sign_in("Ada")


def listed(app: TestApp, page: str = PAGE) -> list[str]:
    return [note["text"] for note in app.get(NOTES, {"page": page}).json["Items"]]


def test_writing_reading_listing(reader: Any, app: TestApp) -> None:
    response = reader.send("POST", NOTES, {"page": PAGE, "text": "  Roar\n"}, 201)
    note = response.json
    assert response.headers["Location"] == f"http://localhost{note['href']}"
    assert (note["page"], note["text"], note["author"], note["version"]) == (PAGE, "Roar", "Ada", 1)
    read = app.get(note["href"])
    assert read.json == note
    assert read.headers["ETag"] == response.headers["ETag"]
    assert app.get(note["href"], headers={"If-None-Match": read.headers["ETag"]}, status=304)
    assert listed(app) == ["Roar"]
    assert listed(app, "index.html") == []


def test_notes_are_listed_in_order_and_in_parts(reader: Any, app: TestApp) -> None:
    for number in range(5):
        reader.write(text=f"note {number}")
    assert listed(app) == [f"note {number}" for number in range(5)]
    first = app.get(f"{NOTES}?page={PAGE}&count=2&start=1").json
    assert [note["text"] for note in first["Items"]] == ["note 1", "note 2"]
    assert first["total"] == 5
    links = {link["rel"]: link["href"] for link in first["Links"]}
    assert [note["text"] for note in app.get(links["next"]).json["Items"]] == ["note 3", "note 4"]
    assert [note["text"] for note in app.get(links["prev"]).json["Items"]] == ["note 0", "note 1"]


def test_changing_needs_the_version_seen(reader: Any, app: TestApp) -> None:
    note = reader.write()
    etag = app.get(note["href"]).headers["ETag"]
    problem = reader.send("PUT", note["href"], {"text": "Purr"}, 428).json
    assert "If-Match" in problem["detail"]
    changed = reader.send("PUT", note["href"], {"text": "Purr"}, 200, If_Match=etag)
    assert (changed.json["text"], changed.json["version"]) == ("Purr", 2)
    lost = reader.send("PUT", note["href"], {"text": "Miaow"}, 412, If_Match=etag)
    assert lost.headers["ETag"] == changed.headers["ETag"]
    assert "version 2" in lost.json["detail"]
    assert app.get(note["href"]).json["text"] == "Purr"


def test_deleting(reader: Any, app: TestApp) -> None:
    first, second = reader.write(text="first"), reader.write(text="second")
    assert reader.send("DELETE", first["href"], None, 412, If_Match='"other"')
    assert reader.send("DELETE", first["href"], None, 204).body == b""
    assert app.get(first["href"], status=404).json["detail"].startswith("There is no such note")
    assert reader.send("DELETE", first["href"], None, 404)
    assert listed(app) == ["second"]
    etag = app.get(second["href"]).headers["ETag"]
    reader.send("DELETE", second["href"], None, 204, If_Match=etag)
    assert listed(app) == []


def test_a_method_that_a_note_does_not_have(reader: Any, app: TestApp) -> None:
    response = app.request(reader.write()["href"], method="PATCH", status=405)
    assert response.headers["Allow"] == "DELETE, GET, HEAD, PUT"


def test_only_its_author_changes_a_note(reader: Any, sign_in: SignIn) -> None:
    note = reader.write()
    other = sign_in("Grace", bearer=True)
    assert other.send("PUT", note["href"], {"text": "mine"}, 403, If_Match="*")
    assert other.send("DELETE", note["href"], None, 403)
    assert reader.send("DELETE", note["href"], None, 204)


def test_what_is_told_and_to_whom(reader: Any, told: Told) -> None:
    note = reader.write(text="one")
    reader.send("PUT", note["href"], {"text": "two"}, 200, If_Match="*")
    reader.send("DELETE", note["href"], None, 204)
    room = f"page:{PAGE}"
    assert told == [("created", "one", room), ("changed", "two", room), ("deleted", "two", room)]


def test_nothing_is_told_of_what_is_not_committed(
    reader: Any, told: Told, app: TestApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The view has told its readers; then the answer cannot be made, and all of it is undone."""

    def broken(self: model.Note) -> Any:
        if self.text == "broken":
            raise RuntimeError("no answer")
        return resource(self)

    from nti.appserver.dataserver.notes import views

    resource = model.Note.resource
    tell = views.live.tell

    def tell_then_fail(event: str, note: model.Note) -> None:
        tell(event, note)
        monkeypatch.setattr(model.Note, "resource", broken)

    monkeypatch.setattr(views.live, "tell", tell_then_fail)
    with pytest.raises(RuntimeError, match="no answer"):
        reader.send("POST", NOTES, {"page": PAGE, "text": "broken"})
    assert told == []
    assert listed(app) == []


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        ({"page": PAGE}, 400, "'text' is missing"),
        ({"page": PAGE, "text": 3}, 400, "'text' is a number"),
        ({"page": PAGE, "text": None}, 400, "'text' is null"),
        ({"page": PAGE, "text": ["x"]}, 400, "'text' is an array"),
        ({"page": PAGE, "text": " \n "}, 400, "0 characters"),
        ({"page": PAGE, "text": "x" * (TEXT_LIMIT + 1)}, 400, f"1 to {TEXT_LIMIT}"),
        ({"page": PAGE, "text": "\ud800"}, 400, "cannot hold"),
        ({"page": PAGE, "text": "a\0b"}, 400, "cannot hold"),
        ({"text": "x"}, 400, "'page' is missing"),
        ({"page": "absent.html", "text": "x"}, 422, "no page 'absent.html'"),
        ({"page": "style.css", "text": "x"}, 422, "no page"),
        ({"page": "../library/index.html", "text": "x"}, 422, "no page"),
        ({"page": "cats", "text": "x"}, 422, "no page"),
        ([], 400, "The body is an array"),
        ("text", 400, "The body is a string"),
    ],
)
def test_bad_notes_are_told_why(reader: Any, body: Any, status: int, told: str) -> None:
    problem = reader.send("POST", NOTES, body, status)
    assert problem.content_type == "application/problem+json"
    assert told in problem.json["detail"]


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"", "application/json", 400),
        (b"{", "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b"[" * 50_000, "application/json", 400),
        (b" " * (BODY_LIMIT + 1), "application/json", 413),
        (b'{"page": "cats/lions.html", "text": "x"}', "text/plain", 415),
        (b"page=cats/lions.html&text=x", "application/x-www-form-urlencoded", 415),
    ],
)
def test_bodies_that_are_none(
    reader: Any, app: TestApp, body: bytes, kind: str, status: int
) -> None:
    app.request(
        NOTES, method="POST", body=body, content_type=kind, headers=reader.headers, status=status
    )
    assert listed(app) == []


def test_a_note_may_be_as_long_as_the_limit_in_any_script(reader: Any, app: TestApp) -> None:
    text = "\U0001f981" * TEXT_LIMIT
    body = json.dumps({"page": PAGE, "text": text}, ensure_ascii=False).encode()
    app.request(
        NOTES,
        method="POST",
        body=body,
        content_type="application/json",
        headers=reader.headers,
        status=201,
    )
    assert listed(app) == [text]


def test_a_page_takes_only_so_many_notes(reader: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "PAGE_LIMIT", 2)
    reader.write()
    reader.write()
    assert "no more" in reader.send("POST", NOTES, {"page": PAGE, "text": "x"}, 409).json["detail"]
    assert reader.write("index.html")


@pytest.mark.parametrize(
    ("query", "told"),
    [("", "Say which page"), ("?page=", "Say which page"), ("?page=a&count=0", "from 1 to 1000")],
)
def test_lists_that_are_not(app: TestApp, query: str, told: str) -> None:
    assert told in app.get(NOTES + query, status=400).json["detail"]


def test_markup_in_a_note_stays_text(reader: Any, app: TestApp) -> None:
    text = '<script>alert(1)</script> & "quotes"'
    note = reader.write(text=text)
    response = app.get(note["href"])
    assert response.json["text"] == text
    assert response.content_type == "application/json"
    assert response.headers["X-Content-Type-Options"] == "nosniff"


def test_a_units_pages_say_how_many_notes_they_have(reader: Any, app: TestApp) -> None:
    reader.write()
    reader.write()
    pages = {page["page"]: page["notes"] for page in app.get("/library/cats/").json["Items"]}
    assert pages == {"cats/index.html": 0, PAGE: 2}


def test_the_service_document(app: TestApp) -> None:
    response = app.get("/dataserver2")
    assert response.content_type == "application/vnd.nextthought.workspace+json"
    library, notes = response.json["Items"]
    assert [item["href"] for item in library["Items"]] == [
        "/library/",
        "/library/cats/",
        "/library/cats/small/",
        "/library/dogs/",
    ]
    assert notes["Items"][0]["href"] == NOTES
    for collection in library["Items"]:
        assert app.get(collection["href"], status=200)
