"""/library/UNIT/Search/TERM: ranked hits with highlighted passages.

The view runs in the request's unit of work.
"""

from typing import Any

from pyramid.view import view_config

from nti.appserver.dataserver.library import markup
from nti.appserver.dataserver.library.catalogue import address, progress
from nti.appserver.dataserver.library.index import Hit
from nti.appserver.dataserver.library.views import html_response, json_response
from nti.appserver.dataserver.library.words import BadQuery
from nti.appserver.dataserver.site import get_site
from nti.appserver.dataserver.web.negotiation import links, part_of, wants_html
from nti.appserver.errors import ClientError

#: Hits in one answer, unless asked for fewer or more, and at most.
HITS_DEFAULT = 20
HITS_LIMIT = 100


@view_config(route_name="search", request_method="GET")
def search(request: Any) -> Any:
    """The best pages of a unit and of those nested in it; /library/Search/ is for all units."""
    unit = request.matchdict["unit"].removeprefix("/")
    if not request.registry["library"].is_folder(unit):
        raise ClientError(404, "Not Found", "There is no such unit to search in.")
    part = part_of(request, default=HITS_DEFAULT, limit=HITS_LIMIT)
    try:
        found = get_site().index.search(
            request.matchdict["query"], unit, start=part.start, count=part.count
        )
    except BadQuery as problem:
        raise ClientError(detail=str(problem)) from None
    resource = {
        "Class": "SearchResults",
        "href": request.path_qs,
        "unit": unit,
        "query": found.query,
        "total": found.total,
        "start": part.start,
        "Items": [_hit_resource(hit) for hit in found.items],
        "Links": links(request, part, found.total),
        "index": progress(),
    }
    if wants_html(request):
        return html_response(markup.results(resource))
    return json_response(resource)


def _hit_resource(hit: Hit) -> dict[str, Any]:
    return {
        "Class": "Hit",
        "href": address(hit.path) + (f"#{hit.anchor}" if hit.anchor else ""),
        "page": hit.path,
        "anchor": hit.anchor,
        "title": hit.title,
        "section": hit.heading,
        "score": hit.score,
        "snippet": [{"text": piece.text, "hit": piece.hit} for piece in hit.snippet],
    }
