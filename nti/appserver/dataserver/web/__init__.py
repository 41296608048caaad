"""What all views share, and the page at `/`.

`negotiation` reads requests, `problems` answers errors, `headers` makes every
response safe by default, `page` serves the page and its static files.
"""

from typing import Any


def includeme(config: Any) -> None:
    """Add the page, its static files, the error views and the default headers."""
    config.add_route("home", "/")
    config.add_static_view("static", "nti.appserver.dataserver:static", cache_max_age=0)
    config.scan("nti.appserver.dataserver.web")
