"""/library: the units, and every file of theirs.

Each view runs in the request's unit of work; a file's view uses no database.
"""

from typing import Any

from pyramid.httpexceptions import HTTPMovedPermanently
from pyramid.response import Response
from pyramid.view import view_config

from nti.appserver.dataserver.library import markup
from nti.appserver.dataserver.library.bodies import file_response, type_of
from nti.appserver.dataserver.library.catalogue import Catalogue, address, first_page, progress
from nti.appserver.dataserver.library.files import NotInLibrary
from nti.appserver.dataserver.web.negotiation import links, part_of, wants_html
from nti.appserver.errors import ClientError

#: Pages that one answer lists, unless asked for fewer or more, and at most.
PAGES_DEFAULT = 500
PAGES_LIMIT = 2000


@view_config(route_name="library", request_method="GET")
def library(request: Any) -> Any:
    """All units, as JSON or HTML."""
    catalogue: Catalogue = request.registry["catalogue"]
    resources = [catalogue.unit_resource(unit) for unit in catalogue.units()]
    if wants_html(request):
        return html_response(markup.units("Library", resources))
    return json_response(
        {
            "Class": "Library",
            "href": "/library",
            "total": len(resources),
            "Items": resources,
            "index": progress(),
        }
    )


@view_config(route_name="content", request_method="GET")
def content(request: Any) -> Any:
    """A file; for a unit's folder its first page, or its pages as JSON or HTML."""
    path: str = request.matchdict["path"]
    if path.endswith("/") or not path:
        return _unit(request, path.removesuffix("/"))
    shelf = request.registry["library"]
    try:
        opened = shelf.open(path)
    except NotInLibrary:
        if shelf.is_folder(path):
            return HTTPMovedPermanently(address(path + "/"))
        raise _nothing_there() from None
    return file_response(opened, framed=_is_framed(request, path))


def _unit(request: Any, unit: str) -> Any:
    catalogue: Catalogue = request.registry["catalogue"]
    pages = catalogue.units().get(unit)
    if pages is None:
        raise _nothing_there()
    if wants_html(request):
        first = first_page(pages)
        if first is None:
            listed = (catalogue.page_resource(path) for path in pages[:PAGES_LIMIT])
            return html_response(markup.pages(catalogue.unit_resource(unit), listed))
        opened = catalogue.library.open(first)
        response = file_response(opened, framed=_is_framed(request, first))
        response.vary = ("Accept",)
        return response
    part = part_of(request, default=PAGES_DEFAULT, limit=PAGES_LIMIT)
    shown = pages[part.start : part.start + part.count]
    return json_response(
        {
            **catalogue.unit_resource(unit),
            "total": len(pages),
            "start": part.start,
            "Items": [catalogue.page_resource(path) for path in shown],
            "Links": links(request, part, len(pages)),
        }
    )


def _is_framed(request: Any, path: str) -> bool:
    """Whether the reader's frame asks; it adds ?frame to the addresses of HTML pages."""
    return request.query_string == "frame" and type_of(path) == "text/html"


def _nothing_there() -> ClientError:
    return ClientError(404, "Not Found", "There is no such page or file in the library.")


def html_response(text: str) -> Any:
    """An answer for browsers."""
    return Response(text, content_type="text/html", charset="utf-8", vary="Accept")


def json_response(value: dict[str, Any]) -> Any:
    """An answer for programs."""
    response = Response(content_type="application/json", vary="Accept", json_body=value)
    response.cache_control = "no-cache"
    return response
