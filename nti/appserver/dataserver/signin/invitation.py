"""The link with which the operator signs in: shown on a terminal, else kept in a file.

The link carries the one-time token in its fragment, which browsers send to no
server and write into no log. The file `sign-in` under the setting `var` has
mode 0600; the token in it is always the one that opens the next session.
"""

import logging
import os
import sys
from pathlib import Path

from nti.appserver.application import site_url
from nti.appserver.dataserver.site import get_site
from nti.appserver.settings import Settings
from nti.appserver.transactions import on_commit

logger = logging.getLogger("nti.appserver.dataserver")

FILE_NAME = "sign-in"
FRAGMENT = "#token="


def link_file(settings: Settings) -> Path:
    """Where the link is kept."""
    return Path(settings.var) / FILE_NAME


def ensure(settings: Settings) -> None:
    """Unit of work: see that the file's link is where the site is, and opens a session."""
    token = _kept_token(settings)
    if get_site().door.knows_token(token):
        on_commit(_keep, settings, token)
    else:
        renew(settings)


def renew(settings: Settings) -> None:
    """Unit of work: issue the next token; the file has it after the commit."""
    on_commit(_keep, settings, get_site(create=True).door.issue_token())


def show(settings: Settings) -> None:
    """Tell the operator the link, where it can be seen by nobody else, or where it is kept."""
    if sys.stderr.isatty():
        link = link_file(settings).read_text("utf-8").strip()
        print(f"\n  Sign in to write notes (works once): {link}\n", file=sys.stderr)
    else:
        logger.info("the link to sign in with is in %s", link_file(settings))


def _kept_token(settings: Settings) -> str:
    try:
        return link_file(settings).read_text("utf-8").strip().partition(FRAGMENT)[2]
    except OSError:
        return ""


def _keep(settings: Settings, token: str) -> None:
    """Replace the file as a whole: who reads it sees one token or the other."""
    file = link_file(settings)
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = file.with_name(f".{FILE_NAME}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as out:
        out.write(f"{site_url(settings)}/{FRAGMENT}{token}\n")
    os.replace(fresh, file)
