"""The application of the full disk: keeps what is posted to it, under the path's name."""

from typing import Any

from BTrees.OOBTree import OOBTree

from nti.appserver.transactions import connection


def site(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """POST keeps the body, GET tells how long it is; 404 where there is none."""
    root = connection().root()
    if "kept" not in root:
        root["kept"] = OOBTree()
    name = environ["PATH_INFO"]
    if environ["REQUEST_METHOD"] == "POST":
        root["kept"][name] = environ["wsgi.input"].read()
    if name not in root["kept"]:
        start_response("404 Not Found", [("Content-Type", "text/plain")])
        return [b""]
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(len(root["kept"][name])).encode()]
