"""Which origins may open WebSockets and Socket.IO sessions (RFC 6455, section 10.2).

Browsers send the Origin header and no other client has to, so a request
without one is let in: the check keeps another site's pages from acting as
their reader, it does not tell who the client is.

Only pure functions live here; nothing waits or switches.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from nti.appserver.errors import ClientError

ANY = "*"

_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


def own_origin(environ: Mapping[str, Any]) -> str:
    """The origin that this request was sent to, "https://example.org"."""
    scheme = {"ws": "http", "wss": "https"}.get(
        environ["wsgi.url_scheme"], environ["wsgi.url_scheme"]
    )
    host = environ.get("HTTP_HOST") or environ.get("SERVER_NAME", "")
    return f"{scheme}://{host.removesuffix(_DEFAULT_PORTS.get(scheme, ' '))}".lower()


def is_allowed(environ: Mapping[str, Any], origins: Sequence[str]) -> bool:
    """Whether the request's origin is the site's own or one of `origins`."""
    origin = environ.get("HTTP_ORIGIN")
    if origin is None or ANY in origins:
        return True
    origin = origin.lower()
    return origin == own_origin(environ) or origin in (entry.lower() for entry in origins)


def check_origin(environ: Mapping[str, Any], origins: Sequence[str]) -> None:
    """Return when the request's origin is allowed.

    :param origins: the setting `origins`; `*` allows any.
    :raises ClientError: 403; says what was seen, what was expected, and what to change.
    """
    if is_allowed(environ, origins):
        return
    seen = environ["HTTP_ORIGIN"]
    own = own_origin(environ)
    mend = "add it to the setting `origins`"
    if seen.lower() == own.replace("http://", "https://", 1):
        mend = (
            "a proxy that ends TLS must send X-Forwarded-Proto and stand in gunicorn's "
            "forwarded_allow_ips"
        )
    expected = " or ".join((own, *origins))
    raise ClientError(
        403, "Forbidden", f"Origin not allowed: saw {seen!r}, expected {expected}; {mend}."
    )
