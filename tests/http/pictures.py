"""A Pyramid application that serves the bytes of a persistent object.

Imported by the worker of the server under test, after patching.
"""

from typing import Any

from persistent import Persistent
from pyramid.config import Configurator
from pyramid.response import Response

from nti.appserver.transactions import connection

PIXELS = bytes(range(256)) * 1024


class Picture(Persistent):
    """Its bytes are as long in memory as it is in its connection's cache."""

    def __init__(self, pixels: bytes) -> None:
        self.pixels = pixels


def put(request: Any) -> Response:
    connection().root()["picture"] = Picture(PIXELS)
    return Response()


def picture(request: Any) -> Response:
    return Response(connection().root()["picture"].pixels, content_type="image/png")


def main(global_config: Any, **settings: Any) -> Any:
    config = Configurator(settings=settings)
    config.include("nti.appserver")
    for method, view in (("POST", put), ("GET", picture)):
        config.add_route(view.__name__, "/picture", request_method=method)
        config.add_view(view, route_name=view.__name__)
    return config.make_wsgi_app()
