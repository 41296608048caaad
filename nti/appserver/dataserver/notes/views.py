"""/dataserver2/notes: list, create, read, change and delete notes.

Each view runs in the request's unit of work. What it tells the page's readers
goes out after the commit, and not at all when there is none.
"""

from typing import Any

from pyramid.view import view_config, view_defaults

from nti.appserver.dataserver.notes import live
from nti.appserver.dataserver.notes.fields import check_version, etag_of, page_of, text_of
from nti.appserver.dataserver.notes.model import PAGE_LIMIT, Note, PageIsFull
from nti.appserver.dataserver.signin.policy import WRITE
from nti.appserver.dataserver.site import get_site
from nti.appserver.dataserver.web.negotiation import json_body, links, parameters, part_of
from nti.appserver.errors import ClientError


@view_defaults(route_name="notes", renderer="json")
class NotesViews:
    """The notes on one page."""

    def __init__(self, request: Any) -> None:
        self.request = request
        request.response.cache_control = "no-cache"

    @view_config(request_method="GET")
    def list(self) -> dict[str, Any]:
        """The notes on the page that the query string names, oldest first."""
        page = parameters(self.request).get("page")
        if not page:
            raise ClientError(detail="Say which page's notes: ?page=UNIT/NAME.html")
        part = part_of(self.request, default=100, limit=PAGE_LIMIT)
        notes = get_site().notes
        return {
            "Class": "Notes",
            "href": self.request.path_qs,
            "page": page,
            "total": notes.count(page),
            "start": part.start,
            "Items": [note.resource() for note in notes.on_page(page, part.start, part.count)],
            "Links": links(self.request, part, notes.count(page)),
        }

    @view_config(request_method="POST", permission=WRITE)
    def create(self) -> dict[str, Any]:
        """Write a note."""
        body = json_body(self.request)
        page = page_of(body, self.request.registry["library"])
        note = Note(page, self.request.authenticated_userid, text_of(body))
        try:
            get_site(create=True).notes.add(note)
        except PageIsFull:
            raise ClientError(
                409, "Conflict", f"{page} has {PAGE_LIMIT} notes already, and takes no more."
            ) from None
        live.tell("created", note)
        response = self.request.response
        response.status = 201
        response.location = note.resource()["href"]
        response.etag = etag_of(note)
        return note.resource()


@view_defaults(route_name="note", renderer="json")
class NoteViews:
    """One note."""

    def __init__(self, request: Any) -> None:
        self.request = request
        request.response.cache_control = "no-cache"
        note = get_site().notes.get(request.matchdict["id"])
        if note is None:
            raise ClientError(404, "Not Found", "There is no such note, or not any more.")
        self.note = note

    @view_config(request_method="GET")
    def show(self) -> dict[str, Any]:
        """The note, with its version as the ETag."""
        return self._current()

    @view_config(request_method="PUT", permission=WRITE)
    def change(self) -> dict[str, Any]:
        """Give the note another text; If-Match says which version the client has seen."""
        self._check_author()
        check_version(self.request, self.note, required=True)
        self.note.change(text_of(json_body(self.request)))
        live.tell("changed", self.note)
        return self._current()

    @view_config(request_method="DELETE", permission=WRITE)
    def delete(self) -> Any:
        """Delete the note; with If-Match, only the version that the client has seen."""
        self._check_author()
        check_version(self.request, self.note, required=False)
        get_site().notes.remove(self.note)
        live.tell("deleted", self.note)
        response = self.request.response
        response.status = 204
        response.content_type = None
        return response

    def _current(self) -> dict[str, Any]:
        self.request.response.etag = etag_of(self.note)
        self.request.response.conditional_response = True
        return self.note.resource()

    def _check_author(self) -> None:
        if self.note.author != self.request.authenticated_userid:
            raise ClientError(403, "Forbidden", "Only its author may change or delete a note.")
