"""Operations of whole sites: every metric over two workers, ids down to the database, outages."""

import contextlib
import http.client
import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from nti.appserver.testing.process import wait_until
from nti.appserver.testing.socketio import SocketIO
from nti.appserver.testing.websocket import WebSocket
from nti.appserver.testing.zeo import ZEOServer
from tests.ops.conftest import ROOT, Site


def whole(folder: Path, *options: str, **settings: str) -> Site:
    """`tests.ops.whole`, not started yet."""
    given = {"APPLICATION": "tests.ops.whole:site", "NAMESPACES": "tests.ops.whole:talk"}
    environ = {f"NTI_APPSERVER_{name}": value for name, value in {**given, **settings}.items()}
    environ["PYTHONPATH"] = os.fspath(ROOT)
    return Site("nti.appserver.gunicorn:app", *options, cwd=folder, environ=environ)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("whole")
    with whole(folder, "-w", "2", "--access-logfile", "-", PING_INTERVAL="2") as it:
        it.wait_until_serving()
        wait_until(lambda: it.metric("appserver_workers") == 2, "two workers")
        yield it


def post(site: Site, path: str, **headers: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=60)
    try:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request("POST", path, b"", {"Connection": "close", **sent})
        return connection.getresponse().status
    finally:
        connection.close()


def becomes(site: Site, name: str, value: float, **labels: str) -> None:
    """A metric has that value, by both workers' word, soon."""
    wait_until(lambda: site.metric(name, **labels) == value, f"{name} is {value}")


# -- metrics


def test_connections_and_sessions_of_all_workers(site: Site) -> None:
    """Gauges count what the workers have now, wherever it was opened."""
    with contextlib.ExitStack() as opened:
        url = f"ws://127.0.0.1:{site.port}/ws"
        sockets = [opened.enter_context(WebSocket(url)) for _ in range(6)]
        clients = [opened.enter_context(SocketIO(site.url)) for _ in range(4)]
        polling = [opened.enter_context(SocketIO(site.url, transport="polling")) for _ in range(3)]
        idle = [opened.enter_context(_idle(site)) for _ in range(5)]
        for websocket in sockets:
            websocket.send("there")
            assert websocket.receive() == "there"
        becomes(site, "appserver_websockets_open", len(sockets) + len(clients))
        becomes(site, "appserver_socketio_sessions", len(clients) + len(polling))
        # Each poll is a request in flight; the idle ones and the posts' connections are parked.
        becomes(site, "appserver_requests_in_flight", len(polling) + len(sockets) + len(clients))
        wait_until(
            lambda: site.metric("appserver_connections_parked") >= len(idle), "idle ones park"
        )
        pids = {client.call("say", "hello")[0] for client in clients}
        for client in (*clients, *polling):
            client.wait_for("said")
        received = {"websocket": len(sockets), "bus": 1 if len(pids) > 1 else 0}
        for kind, count in received.items():
            name = f"appserver_{kind}_messages_received_total"
            wait_until(lambda n=name, c=count: site.metric(n) >= c, f"{name} is {count}")
    becomes(site, "appserver_websockets_open", 0)
    becomes(site, "appserver_requests_in_flight", 0)


@contextlib.contextmanager
def _idle(site: Site) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=60)
    try:
        connection.request("GET", "/")
        connection.getresponse().read()
        yield connection
    finally:
        connection.close()


def test_work_of_all_workers(site: Site) -> None:
    """Counters and histograms grow by what was done, whoever did it."""
    counted = ("appserver_requests_total", "appserver_request_seconds_count")
    before = {name: site.metric(name) for name in counted}
    conflict = {"class": "TransientError"}
    conflicts = site.metric("nti_transactions_conflicts_total", **conflict)
    commits = site.metric("nti_transactions_commit_seconds_count")
    for number in range(20):
        assert post(site, f"/{number}") == 200
    assert post(site, "/conflict") == 200
    for name in counted:
        becomes(site, name, before[name] + 21)
    becomes(site, "nti_transactions_conflicts_total", conflicts + 1, **conflict)
    wait_until(
        lambda: site.metric("nti_transactions_commit_seconds_count") >= commits + 21, "commits"
    )


def test_leases_of_all_workers(site: Site) -> None:
    asking = [threading.Thread(target=site.get, args=("/hold",)) for _ in range(6)]
    for thread in asking:
        thread.start()
    becomes(site, "nti_transactions_leases", len(asking))
    (site.cwd / "enough").touch()
    for thread in asking:
        thread.join(30)
    (site.cwd / "enough").unlink()
    becomes(site, "nti_transactions_leases", 0)


def test_every_metric_is_there_for_both_workers(site: Site) -> None:
    families = list(text_string_to_metric_families(site.get("/_ops/metrics").body))
    found = {sample.name for family in families for sample in family.samples}
    assert found >= {
        "appserver_bus_messages_lost_total",
        "appserver_connections_parked",
        "appserver_hub_lateness_seconds_count",
        "appserver_hub_lateness_worst_seconds",
        "appserver_memory_bytes",
        "appserver_open_descriptors",
        "appserver_request_seconds_bucket",
        "appserver_requests_in_flight",
        "appserver_requests_total",
        "appserver_socketio_sessions",
        "appserver_websockets_open",
        "nti_transactions_conflicts_total",
        "nti_transactions_leases",
    }
    assert all(family.documentation for family in families)
    assert site.metric("appserver_memory_bytes") > 2 * 20 << 20


# -- one id


def test_one_id_from_the_proxy_to_the_transaction(site: Site) -> None:
    assert post(site, "/kept?token=s3cret", X_Request_ID="edge-42") == 200
    site.wait_for_output("edge-42")
    lines = [line for line in site.output().splitlines() if "edge-42" in line]
    assert any("POST /kept?token=*** " in line for line in lines)
    assert "s3cret" not in site.output()
    assert "edge-42" in site.get("/undo").body.splitlines()


def test_events_have_the_id_of_the_request_that_opened_their_session(site: Site) -> None:
    for transport in ("websocket", "polling"):
        name = f"edge-{transport}"
        with SocketIO(site.url, transport=transport, headers=[("X-Request-ID", name)]) as client:
            client.call("say", f"by {transport}")
        site.wait_for_output(f"[{name}] site: said by {transport}")
        assert name in site.get("/undo").body.splitlines()


# -- readiness


def test_a_worker_that_drains_is_alive_and_not_ready(tmp_path: Path) -> None:
    with whole(tmp_path, "-w", "1", STORAGE="none") as site:
        site.wait_until_serving()
        # Heads that have begun are waited for.
        asked = [_begun(site, path) for path in ("/_ops/ping", "/_ops/ready")]
        record = next((site.cwd / "var" / "run" / "ops").glob("worker-*.json"))
        site.send_signal(signal.SIGTERM)
        wait_until(lambda: "draining (shutdown)" in record.read_text(), "it drains")
        ping, ready = (_ended(connection) for connection in asked)
        assert ping.startswith("HTTP/1.1 200 ")
        assert ready.startswith("HTTP/1.1 503 ")
        assert '"draining": "draining (shutdown)"' in ready
        assert site.wait() == 0


def _begun(site: Site, path: str) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", site.port), 30)
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: site\r\n".encode())
    # The worker has it once a whole request on another connection was answered after it.
    site.get("/_ops/ping")
    return connection


def _ended(connection: socket.socket) -> str:
    with connection:
        connection.sendall(b"Connection: close\r\n\r\n")
        return connection.makefile("rb").read().decode()


def test_the_zeo_server_goes_and_comes_back(tmp_path: Path) -> None:
    """503 with a reason meanwhile, by itself again afterwards, nothing acknowledged is lost."""
    (tmp_path / "site").mkdir()
    zeo = ZEOServer(tmp_path / "zeo")
    site = whole(tmp_path / "site", "-w", "2", STORAGE=zeo.uri, STORAGE_TIMEOUT="2")
    with zeo, site:
        site.wait_until_serving()
        done = sum(post(site, "/work") == 200 for _ in range(10))
        assert done == 10
        zeo.kill()
        wait_until(lambda: _not_ready(site) >= 3, "every worker tells that it is not ready")
        assert post(site, "/work") == 503
        assert site.get("/_ops/ping").status == 200
        assert site.get("/_ops/metrics").status == 200
        zeo.start()
        wait_until(lambda: _ready(site) == 20, "every worker is ready again")
        assert post(site, "/work") == 200
        # One that has not heard of the other's write yet tells what it knows.
        wait_until(lambda: site.get("/work").body == "11", "all is there")
        assert site.output().count("Booting worker") == 2, "no worker had to be replaced"


def _not_ready(site: Site) -> int:
    """How many of some answers, from one worker or the other, say what is missing."""
    answers = [site.get("/_ops/ready") for _ in range(3)]
    return sum(each.status == 503 and "storage" in each.json["problems"] for each in answers)


def _ready(site: Site) -> int:
    return sum(site.get("/_ops/ready").status == 200 for _ in range(20))


def test_the_bus_that_cannot_be_heard(tmp_path: Path) -> None:
    """A folder that is none: emits of other workers would be missed."""
    (tmp_path / "var" / "run").mkdir(parents=True, mode=0o700)
    (tmp_path / "var" / "run" / "bus").write_text("no folder")
    with whole(tmp_path, STORAGE="none") as site:
        site.wait_until_serving()
        wait_until(lambda: site.get("/_ops/ready").status == 200, "ready")
        with SocketIO(site.url):
            answer = site.get("/_ops/ready")
            assert answer.status == 503
            assert "var/run/bus" in answer.json["problems"]["bus"]
