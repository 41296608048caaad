"""From settings to the application that is served.

`appserver` puts the middleware around an application, `resolve` finds what a
setting names, `configured` makes what the settings ask for: `make_app`, and
`paste_app` for PasteDeploy; `site_url` is where readers find it. gunicorn's
arbiter imports this package when it preloads a PasteDeploy file, so `AppServer`
and all rooms that hold locks and thread-locals are imported when they are first
asked for.
"""

from typing import TYPE_CHECKING, Any

from nti.appserver.application.configured import make_app, paste_app, site_url

if TYPE_CHECKING:
    from nti.appserver.application.appserver import AppServer

__all__ = ["AppServer", "make_app", "paste_app", "site_url"]


def __getattr__(name: str) -> Any:
    """`AppServer`, whose module imports every room of the chain."""
    if name != "AppServer":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from nti.appserver.application.appserver import AppServer

    return AppServer
