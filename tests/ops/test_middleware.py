"""OpsMiddleware around a WSGI application: ids, counts, and who sees `/_ops/`."""

from collections.abc import Iterator
from typing import Any

import pytest
from webtest import TestApp

from nti.appserver import health
from nti.appserver.errors import ConfigurationError
from nti.appserver.metrics import Histogram
from nti.appserver.ops import OpsMiddleware, current_request_id, middleware
from nti.appserver.request_id import KEY, RequestIds
from nti.appserver.settings import Settings

CONSTANT_HEADERS = [("Content-Type", "text/plain")]


class Connection:
    """What the HTTP connection tells of its peer."""

    def __init__(self, peer: Any, trusted: bool) -> None:
        self.peer = peer
        self.trusted = trusted


def hello(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", CONSTANT_HEADERS)
    return [f"{environ[KEY]} {current_request_id()}".encode()]


def app(settings: Settings | None = None, **environ: Any) -> TestApp:
    """`hello` behind the middleware, asked from this machine unless `environ` says otherwise."""
    extra = {"REMOTE_ADDR": "127.0.0.1", **environ}
    return TestApp(OpsMiddleware(hello, settings or Settings()), extra_environ=extra)


@pytest.fixture
def _ailing() -> Iterator[None]:
    cancel = health.register("storage", lambda: "no answer for 3 s")
    yield
    cancel()


def test_an_id_is_made_and_told_everywhere() -> None:
    answer = app().get("/")
    made = answer.headers["X-Request-ID"]
    assert answer.text == f"{made} {made}"
    assert made != app().get("/").headers["X-Request-ID"]
    assert len(CONSTANT_HEADERS) == 1, "the application's own list is not touched"


def test_ids_of_forked_processes_differ() -> None:
    assert RequestIds().new().split("-")[0] != RequestIds().new().split("-")[0]


def test_a_trusted_peer_names_the_request() -> None:
    connection = Connection(("127.0.0.1", 4711), trusted=True)
    site = app(**{"nti.appserver.connection": connection})
    answer = site.get("/", headers={"X-Request-ID": "edge-42"})
    assert answer.headers["X-Request-ID"] == "edge-42"
    assert answer.text == "edge-42 edge-42"


@pytest.mark.parametrize("sent", ["", "a b", "a\tb", 'x"', "ä", "x" * 129])
def test_an_id_that_could_break_a_log_line_is_not_taken(sent: str) -> None:
    connection = Connection(("127.0.0.1", 4711), trusted=True)
    environ = {"nti.appserver.connection": connection, "HTTP_X_REQUEST_ID": sent}
    assert app(**environ).get("/").headers["X-Request-ID"] != sent


def test_others_do_not_name_the_request() -> None:
    connection = Connection(("203.0.113.9", 4711), trusted=False)
    site = app(**{"nti.appserver.connection": connection, "REMOTE_ADDR": "203.0.113.9"})
    assert site.get("/", headers={"X-Request-ID": "mine"}).headers["X-Request-ID"] != "mine"


def test_requests_are_counted_by_status() -> None:
    def gone(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("410 Gone", [("Content-Type", "text/plain")])
        return [b""]

    before = middleware.REQUESTS.labels("4xx").value
    TestApp(OpsMiddleware(gone, Settings())).get("/", status=410)
    assert middleware.REQUESTS.labels("4xx").value == before + 1


def test_an_application_that_raises_is_not_in_flight_any_more() -> None:
    def broken(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        assert middleware.IN_FLIGHT.value == 1
        raise RuntimeError("broken")

    seconds: Histogram = middleware.SECONDS
    before = sum(seconds.counts)
    with pytest.raises(RuntimeError, match="broken"):
        TestApp(OpsMiddleware(broken, Settings())).get("/")
    assert middleware.IN_FLIGHT.value == 0
    assert sum(seconds.counts) == before + 1


def test_ping_answers() -> None:
    answer = app().get("/_ops/ping")
    assert answer.text == "pong\n"
    assert answer.headers["Cache-Control"] == "no-store"


def test_ready_says_yes() -> None:
    assert app().get("/_ops/ready").json == {"ready": True, "problems": {}}


@pytest.mark.usefixtures("_ailing")
def test_ready_says_why_not() -> None:
    answer = app().get("/_ops/ready", status=503)
    assert answer.json == {"ready": False, "problems": {"storage": "no answer for 3 s"}}


def test_a_check_that_raises_is_a_problem_and_tells_no_secret() -> None:
    def check() -> str:
        raise OSError("postgresql://user:secret@host")

    cancel = health.register("storage", check)
    try:
        answer = app().get("/_ops/ready", status=503)
    finally:
        cancel()
    assert answer.json["problems"] == {"storage": "the check failed with OSError"}


def test_metrics_outside_of_a_worker_are_this_process_alone() -> None:
    answer = app().get("/_ops/metrics")
    assert "# TYPE appserver_requests_total counter" in answer.text


def test_head_has_no_body_and_post_is_refused() -> None:
    assert app().head("/_ops/ping").body == b""
    assert app().post("/_ops/ping", status=405).headers["Allow"] == "GET, HEAD"


def test_other_pages_under_ops_do_not_reach_the_application() -> None:
    app().get("/_ops/", status=404)
    app().get("/_ops/other", status=404)


TRUSTED = Connection(("127.0.0.1", 4711), trusted=True)


@pytest.mark.parametrize(
    ("environ", "allow", "seen"),
    [
        pytest.param({"REMOTE_ADDR": "127.0.0.1"}, (), True, id="this machine"),
        pytest.param(
            {"REMOTE_ADDR": "", "nti.appserver.connection": Connection("", True)},
            (),
            True,
            id="a unix socket",
        ),
        pytest.param(
            {"REMOTE_ADDR": "203.0.113.9", "nti.appserver.connection": TRUSTED},
            (),
            False,
            id="a client that the proxy named",
        ),
        pytest.param(
            {"REMOTE_ADDR": "127.0.0.1", "nti.appserver.connection": TRUSTED, "HTTP_VIA": "x"},
            (),
            False,
            id="through a proxy that named no client",
        ),
        pytest.param(
            {"REMOTE_ADDR": "127.0.0.1", "HTTP_X_FORWARDED_FOR": "127.0.0.1"},
            (),
            False,
            id="a client that claims to be this machine",
        ),
        pytest.param({"REMOTE_ADDR": "10.1.2.3"}, (), False, id="a stranger"),
        pytest.param({"REMOTE_ADDR": "10.1.2.3"}, ("10.1.0.0/16",), True, id="an allowed network"),
        pytest.param(
            {"REMOTE_ADDR": "::ffff:10.1.2.3"}, ("10.1.2.3",), True, id="the same, mapped to IPv6"
        ),
        pytest.param({"REMOTE_ADDR": "10.1.2.3"}, ("fe80::/10",), False, id="another family"),
        pytest.param(
            {
                "REMOTE_ADDR": "10.9.9.9",
                "nti.appserver.connection": Connection(("10.9.9.9", 1), True),
            },
            (),
            True,
            id="a load balancer that asks for itself",
        ),
    ],
)
def test_who_sees_operational_pages(
    environ: dict[str, Any], allow: tuple[str, ...], seen: bool
) -> None:
    site = app(Settings(ops_allow=allow), **environ)
    for page in ("ping", "ready", "metrics"):
        site.get(f"/_ops/{page}", status=200 if seen else 404)


def test_a_network_that_is_none_is_refused_at_the_start() -> None:
    with pytest.raises(ConfigurationError, match=r"ops_allow has 'internal'"):
        OpsMiddleware(hello, Settings(ops_allow=("internal",)))
