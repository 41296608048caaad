"""The page at `/`: one HTML file that asks the resources for everything else."""

from importlib.resources import files
from typing import Any

from pyramid.view import view_config

#: Its scripts, styles and connections are the site's own; the reader is a frame of the site's.
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; frame-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)

_PAGE = files("nti.appserver.dataserver").joinpath("static", "index.html").read_bytes()


@view_config(route_name="home", request_method="GET")
def home(request: Any) -> Any:
    """The page; the same for everybody."""
    response = request.response
    response.content_type = "text/html"
    response.charset = "utf-8"
    response.body = _PAGE
    response.headers["Content-Security-Policy"] = PAGE_POLICY
    response.conditional_response = True
    response.md5_etag()
    return response
