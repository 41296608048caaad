"""Pyramid's security policy: reading is for everybody, writing for who has signed in.

A session is named by a cookie or by a bearer token (RFC 6750). Browsers add
cookies by themselves, also to requests that another page made; so a request
that changes something and relies on the cookie must come from the site itself
and repeat the session's CSRF token, which only the site's own page can read.
A page of the library is none of these: its sandbox gives it an origin of its
own. The policy runs in the request's unit of work.
"""

import hmac
from typing import Any

from pyramid.request import RequestLocalCache
from pyramid.security import Allowed, Denied

from nti.appserver.dataserver.signin.model import SESSION_SECONDS, Session
from nti.appserver.dataserver.site import get_site
from nti.appserver.origins import is_allowed, own_origin

COOKIE = "nti.appserver.session"
CSRF_HEADER = "X-CSRF-Token"
WRITE = "write"


class SessionPolicy:
    """Finds the session of a request and says what it may do."""

    def __init__(self) -> None:
        self._sessions = RequestLocalCache(self._find)

    def identity(self, request: Any) -> Session | None:
        """The session, or None."""
        session: Session | None = self._sessions.get_or_create(request)
        return session

    def authenticated_userid(self, request: Any) -> str | None:
        """The name that the reader signed in with, or None."""
        session = self.identity(request)
        return session.name if session else None

    def permits(self, request: Any, context: Any, permission: str) -> Allowed | Denied:
        """Whether the request may do what a view asks `permission` for."""
        session = self.identity(request)
        if session is None:
            return Denied("Sign in first: POST a token and a name to /dataserver2/session.")
        if bearer_of(request) is None:
            if not is_allowed(request.environ, ()):
                return Denied(
                    "Another origin's page may not write with the reader's cookie: saw "
                    f"{request.headers['Origin']!r}, expected {own_origin(request.environ)!r}."
                )
            if not _matches(request.headers.get(CSRF_HEADER, ""), session.csrf):
                return Denied(
                    f"The header {CSRF_HEADER} is missing or not this session's; "
                    "GET /dataserver2/session tells it."
                )
        return Allowed("signed in")

    def remember(self, request: Any, userid: str, **kw: Any) -> list[tuple[str, str]]:
        """The headers that keep a session: `secret` is the session's."""
        request.response.set_cookie(
            COOKIE,
            kw["secret"],
            max_age=int(SESSION_SECONDS),
            secure=request.scheme == "https",
            httponly=True,
            samesite="Strict",
        )
        return []

    def forget(self, request: Any, **kw: Any) -> list[tuple[str, str]]:
        """The headers that end a session in the browser."""
        request.response.delete_cookie(COOKIE)
        return []

    def _find(self, request: Any) -> Session | None:
        secret = secret_of(request)
        return get_site().door.session(secret) if secret else None


def bearer_of(request: Any) -> str | None:
    """The secret in the Authorization header, or None."""
    kind, _, secret = request.headers.get("Authorization", "").partition(" ")
    return secret.strip() if kind.lower() == "bearer" else None


def secret_of(request: Any) -> str | None:
    """The secret that names the request's session, or None."""
    bearer = bearer_of(request)
    return bearer if bearer is not None else request.cookies.get(COOKIE)


def _matches(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode())
