"""The outermost middleware: request ids, request metrics, and the pages under `/_ops/`.

Runs in the request's greenlet, on every request: the common case is a few
dictionary operations and does not switch.
"""

from collections.abc import Callable, Iterable
from time import perf_counter
from types import TracebackType
from typing import Any

from nti.appserver.metrics import Counter, Gauge, Histogram
from nti.appserver.ops.echo import PREFIX as ECHO_PREFIX
from nti.appserver.ops.echo import Echo
from nti.appserver.request_id import KEY, request_id_of, set_request_id
from nti.appserver.settings import Settings

WSGIApplication = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
ExceptionInfo = tuple[type[BaseException], BaseException, TracebackType]

PREFIX = "/_ops/"
PREFIXES = (PREFIX, ECHO_PREFIX)

REQUESTS = Counter(
    "appserver_requests_total", "Requests that the application answered.", ["status"]
)
SECONDS = Histogram(
    "appserver_request_seconds",
    "From the request's head to the application's return; a streamed body comes after.",
)
IN_FLIGHT = Gauge("appserver_requests_in_flight", "Requests that the application works on now.")

_BY_STATUS = {digit: REQUESTS.labels(f"{digit}xx") for digit in "12345"}
_OTHER = REQUESTS.labels("other")


class OpsMiddleware:
    """Gives each request its id, counts it, and answers `/_ops/` itself.

    The id is in `environ['nti.appserver.request_id']`, in the answer's
    X-Request-ID header and in every log record that the request's greenlet
    makes.

    :param app: the application around which it stands.
    :param settings: those of the environment when not given.
    """

    def __init__(self, app: WSGIApplication, settings: Settings | None = None) -> None:
        from nti.appserver.ops.pages import Pages
        from nti.appserver.ops.registry import folder_for

        self._app = app
        self._pages = Pages(settings)
        self._echo = Echo(folder_for(self._pages.settings))

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        began = perf_counter()
        request_id = environ[KEY] = request_id_of(environ)
        set_request_id(request_id)
        path = environ["PATH_INFO"]
        if path.startswith(PREFIXES):
            page = self._pages if path.startswith(PREFIX) else self._echo
            return page(environ, start_response)

        def with_id(
            status: str, headers: list[tuple[str, str]], exc_info: ExceptionInfo | None = None
        ) -> Callable[[bytes], object]:
            _BY_STATUS.get(status[0], _OTHER).value += 1
            # A new list: applications hand in constants.
            headers = [*headers, ("X-Request-ID", request_id)]
            if exc_info is None:
                return start_response(status, headers)  # type: ignore[no-any-return]
            return start_response(status, headers, exc_info)  # type: ignore[no-any-return]

        IN_FLIGHT.inc()
        try:
            return self._app(environ, with_id)
        finally:
            IN_FLIGHT.dec()
            SECONDS.observe(perf_counter() - began)
