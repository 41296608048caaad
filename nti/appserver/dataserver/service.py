"""/dataserver2: the service document, from which a client finds everything else.

The view runs in the request's unit of work.
"""

from typing import Any

from pyramid.view import view_config

MEDIA_TYPE = "application/vnd.nextthought.workspace+json"


@view_config(route_name="service", request_method="GET")
def service(request: Any) -> Any:
    """The workspaces and their collections."""
    catalogue = request.registry["catalogue"]
    units = [catalogue.unit_resource(unit) for unit in catalogue.units()]
    request.response.content_type = MEDIA_TYPE
    request.response.cache_control = "no-cache"
    request.response.json_body = {
        "Class": "Service",
        "MimeType": MEDIA_TYPE,
        "href": "/dataserver2",
        "Items": [
            _workspace("Library", [_collection(unit["title"], unit["href"]) for unit in units]),
            _workspace(
                "Notes",
                [
                    _collection(
                        "Notes",
                        "/dataserver2/notes",
                        accepts=["application/vnd.nextthought.note+json", "application/json"],
                    )
                ],
            ),
        ],
        "Links": [
            {"rel": "library", "href": "/library"},
            {"rel": "search", "href": "/library/Search/"},
            {"rel": "session", "href": "/dataserver2/session"},
            {"rel": "live", "href": "/socket.io/", "namespace": "/notes"},
        ],
    }
    return request.response


def _workspace(title: str, collections: list[dict[str, Any]]) -> dict[str, Any]:
    return {"Class": "Workspace", "Title": title, "Items": collections}


def _collection(title: str, href: str, accepts: list[str] | None = None) -> dict[str, Any]:
    return {"Class": "Collection", "Title": title, "href": href, "accepts": accepts or []}
