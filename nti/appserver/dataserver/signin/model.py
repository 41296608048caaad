"""Sessions and the sign-in token as the database keeps them.

Persistent classes live here, so a name in this file is also written into
databases. Everything runs inside of a unit of work. Only digests of secrets
are stored: whoever reads a copy of the database cannot sign in with it.
"""

import hashlib
import hmac
import secrets
import time

from BTrees.OOBTree import OOBTree
from persistent import Persistent

DAYS = 24 * 3600.0

#: How long a session lasts, in seconds, and how many there are before the oldest ends.
SESSION_SECONDS = 30 * DAYS
SESSION_LIMIT = 1000


def digest_of(secret: str) -> str:
    """What is stored of a secret; the secrets are random, so a plain hash tells nothing."""
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


class Session(Persistent):
    """A reader who has signed in.

    :ivar name: as it stands under the reader's notes.
    :ivar csrf: what a request that relies on the cookie must repeat.
    :ivar expires: seconds since 1970.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.csrf = secrets.token_urlsafe(24)
        self.created = time.time()
        self.expires = self.created + SESSION_SECONDS


class Door(Persistent):
    """The sessions, and the one token that opens the next."""

    def __init__(self) -> None:
        self._sessions = OOBTree()  # digest of the session's secret -> Session
        self._token_digest = ""

    def issue_token(self) -> str:
        """A new token; the one before it opens nothing any more."""
        token = secrets.token_urlsafe(24)
        self._token_digest = digest_of(token)
        return token

    def knows_token(self, token: str) -> bool:
        """Whether the token would open a session."""
        return bool(self._token_digest) and hmac.compare_digest(
            self._token_digest, digest_of(token)
        )

    def sign_in(self, token: str, name: str) -> tuple[str, Session] | None:
        """Use the token up; the session's secret and the session, None for a wrong token."""
        if not self.knows_token(token):
            return None
        self._token_digest = ""
        self._forget_old()
        secret = secrets.token_urlsafe(32)
        session = self._sessions[digest_of(secret)] = Session(name)
        return secret, session

    def session(self, secret: str) -> Session | None:
        """The session of this secret, unless it has ended."""
        session: Session | None = self._sessions.get(digest_of(secret))
        return session if session and session.expires > time.time() else None

    def sign_out(self, secret: str) -> None:
        """End a session; nothing happens when there is none."""
        self._sessions.pop(digest_of(secret), None)

    def _forget_old(self) -> None:
        """Drop the sessions that have ended, and the oldest where there are too many."""
        now = time.time()
        for key in [key for key, session in self._sessions.items() if session.expires <= now]:
            del self._sessions[key]
        if len(self._sessions) >= SESSION_LIMIT:
            oldest = min(self._sessions, key=lambda key: self._sessions[key].created)
            del self._sessions[oldest]
