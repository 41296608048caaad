"""Signing in: tokens that work once, sessions, and who may write with what."""

import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from webtest import TestApp

from nti.appserver.dataserver.signin import invitation, model
from nti.appserver.dataserver.site import get_site
from nti.appserver.settings import Settings
from nti.appserver.transactions import run

SESSION = "/dataserver2/session"
NOTES = "/dataserver2/notes"
NOTE = {"page": "index.html", "text": "x"}
SignIn = Callable[..., Any]


def new_token() -> str:
    return run(lambda: get_site(create=True).door.issue_token())


def test_nobody_at_first(app: TestApp) -> None:
    assert app.get(SESSION).json["name"] is None


def test_a_token_works_once(app: TestApp) -> None:
    token = new_token()
    response = app.post_json(SESSION, {"token": token, "name": " Ada  Lovelace "}, status=201)
    assert response.json["name"] == "Ada Lovelace"
    assert app.get(SESSION).json == response.json
    again = TestApp(app.app).post_json(SESSION, {"token": token, "name": "Eve"}, status=403)
    assert "used before" in again.json["detail"]


def test_a_wrong_token_opens_nothing_and_uses_nothing_up(app: TestApp) -> None:
    token = new_token()
    for wrong in ("x", token[:-1], token + "x", "\u00e9"):
        app.post_json(SESSION, {"token": wrong, "name": "Eve"}, status=403)
        assert app.get(SESSION).json["name"] is None
    app.post_json(SESSION, {"token": token, "name": "Ada"}, status=201)


def test_without_a_token_issued_nothing_opens(app: TestApp) -> None:
    app.post_json(SESSION, {"token": "e3b0c442", "name": "Eve"}, status=403)


def test_the_next_token_is_another(app: TestApp, settings: Settings) -> None:
    """Signing in puts the next token into the file; the one before opens nothing."""
    run(invitation.ensure, settings)
    file = invitation.link_file(settings)
    first = file.read_text().strip().partition("#token=")[2]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    run(invitation.ensure, settings)
    assert file.read_text().strip().endswith(first)
    app.post_json(SESSION, {"token": first, "name": "Ada"}, status=201)
    second = file.read_text().strip().partition("#token=")[2]
    assert second != first
    TestApp(app.app).post_json(SESSION, {"token": second, "name": "Grace"}, status=201)


def test_a_sign_in_that_fails_leaves_the_file_alone(app: TestApp, settings: Settings) -> None:
    run(invitation.ensure, settings)
    before = invitation.link_file(settings).read_text()
    app.post_json(SESSION, {"token": "wrong", "name": "Eve"}, status=403)
    assert invitation.link_file(settings).read_text() == before


def test_the_link_is_shown_on_a_terminal_and_only_there(
    settings: Settings,
    database: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run(invitation.ensure, settings)
    link = invitation.link_file(settings).read_text().strip()
    invitation.show(settings)
    assert link not in capsys.readouterr().err
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    invitation.show(settings)
    assert link in capsys.readouterr().err


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"name": "Ada"}, "'token' is missing"),
        ({"token": "x"}, "'name' is missing"),
        ({"token": "x", "name": "   "}, "0 characters"),
        ({"token": "x", "name": "n" * 65}, "1 to 64"),
        ({"token": "x" * 201, "name": "Ada"}, "1 to 200"),
        ({"token": "x", "name": "a\0"}, "cannot hold"),
    ],
)
def test_bad_sign_ins_are_told_why(app: TestApp, body: Any, told: str) -> None:
    assert told in app.post_json(SESSION, body, status=400).json["detail"]


def test_the_cookie_is_out_of_reach_for_scripts_and_other_sites(app: TestApp) -> None:
    body = {"token": new_token(), "name": "Ada"}
    cookie = app.post_json(SESSION, body).headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert "secure" not in cookie.lower()
    body["token"] = new_token()
    https = TestApp(app.app, extra_environ={"wsgi.url_scheme": "https"})
    assert "; secure" in https.post_json(SESSION, body).headers["Set-Cookie"].lower()


def test_writing_needs_a_session(app: TestApp) -> None:
    response = app.post_json(NOTES, NOTE, status=401)
    assert response.headers["WWW-Authenticate"] == "Bearer"
    assert SESSION in response.json["detail"]
    app.post_json(NOTES, NOTE, headers={"Authorization": "Bearer wrong"}, status=401)
    app.post_json(NOTES, NOTE, headers={"Authorization": "Basic d3Jvbmc="}, status=401)
    app.set_cookie("nti.appserver.session", "wrong")
    app.post_json(NOTES, NOTE, status=401)


def test_the_cookie_alone_is_not_enough_to_write(app: TestApp, sign_in: SignIn) -> None:
    """A request that another page made has the cookie and cannot have the token."""
    reader = sign_in()
    assert "X-CSRF-Token" in app.post_json(NOTES, NOTE, status=403).json["detail"]
    app.post_json(NOTES, NOTE, headers={"X-CSRF-Token": "wrong"}, status=403)
    app.post_json(NOTES, NOTE, headers=reader.headers, status=201)


@pytest.mark.parametrize("origin", ["null", "http://evil.example", "https://localhost"])
def test_another_origin_may_not_write_even_with_both(
    app: TestApp, sign_in: SignIn, origin: str
) -> None:
    """A script in a library page has the origin `null`."""
    reader = sign_in()
    app.post_json(NOTES, NOTE, headers={**reader.headers, "Origin": origin}, status=403)
    own = {**reader.headers, "Origin": "http://localhost"}
    app.post_json(NOTES, NOTE, headers=own, status=201)


def test_a_bearer_token_needs_nothing_else_and_sets_no_cookie(
    app: TestApp, sign_in: SignIn
) -> None:
    reader = sign_in(bearer=True)
    assert not reader.app.cookies
    assert reader.write("index.html")["author"] == "Ada"
    assert app.get(SESSION).json["name"] is None


def test_signing_out_ends_the_session_everywhere(app: TestApp, sign_in: SignIn) -> None:
    reader = sign_in()
    cookie = app.cookies["nti.appserver.session"]
    app.delete(SESSION, status=403)
    reader.send("DELETE", SESSION, None, 204)
    assert app.get(SESSION).json["name"] is None
    app.set_cookie("nti.appserver.session", cookie.strip('"'))
    assert app.get(SESSION).json["name"] is None


def test_a_session_ends_by_itself(
    app: TestApp, sign_in: SignIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "SESSION_SECONDS", 0.0)
    sign_in()
    assert app.get(SESSION).json["name"] is None


def test_there_are_only_so_many_sessions(database: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "SESSION_LIMIT", 3)
    door = model.Door()
    secrets = []
    for number in range(5):
        found = door.sign_in(door.issue_token(), f"reader {number}")
        assert found is not None
        secrets.append(found[0])
    assert [door.session(secret) is not None for secret in secrets] == [False] * 2 + [True] * 3


def test_no_secret_is_stored(app: TestApp, sign_in: SignIn, database: Any) -> None:
    reader = sign_in(bearer=True)
    token = new_token()
    stored = b"".join(
        database.storage.load(oid)[0]
        for oid in (number.to_bytes(8, "big") for number in range(len(database.storage) + 5))
        if oid in database.storage._data
    )
    assert b"Ada" in stored
    assert reader.session["bearer"].encode() not in stored
    assert token.encode() not in stored


def test_answers_about_sessions_are_not_kept(app: TestApp) -> None:
    assert app.get(SESSION).headers["Cache-Control"] == "no-store"


def test_a_library_page_never_gets_the_cookies_power(app: TestApp, library: Path) -> None:
    """The sandbox is what keeps a page's scripts from the reader's session."""
    (library / "evil.html").write_text("<script>fetch('/dataserver2/session')</script>")
    for path in ("/library/evil.html", "/library/evil.html?frame"):
        policy = app.get(path).headers["Content-Security-Policy"]
        assert policy == "sandbox allow-scripts"
        assert "allow-same-origin" not in policy
    assert "Access-Control-Allow-Origin" not in app.get(SESSION).headers
