"""What a site runs out of: it says so, and goes on by itself when there is some again."""

import contextlib
import shutil
import signal
import socket
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException

import psutil

from nti.appserver.testing.process import wait_until
from tests.ops.conftest import Site

Serve = Callable[..., Site]


def answers(site: Site, path: str = "/") -> bool:
    with contextlib.suppress(OSError, HTTPException):
        return site.get(path).status == 200
    return False


def test_out_of_descriptors_and_back(serve: Serve) -> None:
    """The application has taken all that there are; who is connected is served all the same."""
    site = serve("-w", "1", limit="ulimit -n 400").wait_until_serving()
    connection = HTTPConnection("127.0.0.1", site.port, timeout=30)
    with contextlib.closing(connection):
        assert _asked(connection, "/open") == 200
        with socket.create_connection(("127.0.0.1", site.port), 30) as waiting:
            waiting.sendall(b"GET / HTTP/1.0\r\n\r\n")
            site.wait_for_output("Cannot accept connections: ")
            assert _asked(connection, "/_ops/metrics") in (200, 503)
            assert _asked(connection, "/close") == 200
            assert b" 200 OK" in waiting.recv(100)
    wait_until(lambda: answers(site, "/_ops/metrics"), "it counts again")


def _asked(connection: HTTPConnection, path: str) -> int:
    connection.request("GET", path)
    response = connection.getresponse()
    response.read()
    return response.status


def test_more_clients_than_descriptors(serve: Serve) -> None:
    """Those that there is no room for wait, and come in as others leave."""
    site = serve("-w", "1", limit="ulimit -n 300").wait_until_serving()
    with contextlib.ExitStack() as clients:
        for _ in range(100):
            clients.enter_context(socket.create_connection(("127.0.0.1", site.port), 5))
    wait_until(lambda: answers(site), "the site answers again")
    assert "Cannot accept connections" not in site.output()


def test_the_folder_of_records_goes_and_comes_back(serve: Serve) -> None:
    site = serve().wait_until_serving()
    folder = site.cwd / "var" / "run" / "ops"
    wait_until(lambda: answers(site, "/_ops/metrics"), "it counts")
    shutil.rmtree(folder)
    site.wait_for_output("cannot write to var/run/ops")
    assert answers(site)
    assert site.get("/_ops/metrics").status == 503
    folder.mkdir(mode=0o700)
    site.wait_for_output("writing to var/run/ops works again")
    assert answers(site, "/_ops/metrics")
    assert site.output().count("cannot write to") == 1
    assert site.stop(signal.SIGTERM) == 0


def test_a_request_that_needs_more_memory_than_there_is(serve: Serve) -> None:
    """It fails by itself; the worker, and what others do in it, goes on."""
    site = serve("-w", "1", limit="ulimit -v 4000000").wait_until_serving()
    worker = site.get("/").body
    assert site.get("/large?mib=8000").status == 500
    site.wait_for_output("MemoryError")
    assert site.get("/").body == worker


def test_a_worker_that_the_kernel_kills_for_its_memory(serve: Serve) -> None:
    """What a memory cgroup does: SIGKILL. The others serve on, and another takes its place."""
    site = serve("-w", "2", CRASH_LOOP="0").wait_until_serving()
    wait_until(lambda: len(site.workers()) == 2, "both serve")
    (first, second) = psutil.Process(site.pid).children()
    first.kill()
    wait_until(lambda: answers(site), "the other serves")
    served: set[int] = set()

    def two() -> bool:
        served.clear()
        served.update(site.workers())
        return first.pid not in served and len(served) == 2

    wait_until(two, "two again")
    assert second.pid in served
    site.wait_for_output("was sent SIGKILL! Perhaps out of memory?")
