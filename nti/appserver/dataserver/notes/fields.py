"""What a client may say of a note, and which version of it a client has seen.

Everything wrong with it is a `ClientError` that says what was seen and what
was expected. Nothing here changes anything.
"""

from typing import Any

from nti.appserver.dataserver.library.files import PATH_LIMIT, Library, NotInLibrary, is_page
from nti.appserver.dataserver.notes.model import Note
from nti.appserver.dataserver.web.negotiation import text_field
from nti.appserver.errors import ClientError

#: Characters of a note.
TEXT_LIMIT = 10_000


def text_of(body: dict[str, Any]) -> str:
    """The note's text.

    :raises ClientError: 400.
    """
    return text_field(body, "text", TEXT_LIMIT)


def page_of(body: dict[str, Any], library: Library) -> str:
    """The page that the note is for.

    :raises ClientError: 400 for what is no path, 422 when the library has no such page.
    """
    path = text_field(body, "page", PATH_LIMIT)
    if is_page(path):
        try:
            library.open(path).file.close()
            return path
        except NotInLibrary:
            pass
    raise ClientError(
        422, "Unprocessable Content", f"The library has no page {path!r} to write a note on."
    )


def etag_of(note: Note) -> str:
    """The entity tag of a note's current version, without quotes."""
    return f"{note.id}.{note.version}"


def check_version(request: Any, note: Note, *, required: bool) -> None:
    """Return when the client has seen the current version (RFC 9110, section 13.1.1).

    :raises ClientError: 412 when If-Match names another version; 428 (RFC
        6585) when it is required and missing.
    """
    if required and "If-Match" not in request.headers:
        raise ClientError(
            428,
            "Precondition Required",
            f'A change needs the header If-Match with the version seen, as in "{etag_of(note)}".',
        )
    if etag_of(note) not in request.if_match:
        raise ClientError(
            412,
            "Precondition Failed",
            f"The note has changed since: it is at version {note.version} now.",
            headers=[("ETag", f'"{etag_of(note)}"')],
        )
