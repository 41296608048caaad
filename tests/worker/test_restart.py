"""Workers that replace one another: HUP, USR2, recycling; the site answers all the while."""

import os
import signal
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nti.appserver.testing.process import GunicornProcess, wait_until
from tests.worker.conftest import Serve, break_site, fetch, mend_site, workers_booted


@contextmanager
def answering(server: GunicornProcess) -> Iterator[list[str]]:
    """Ask all the while; what was not answered is in the list, and fails the test."""
    problems: list[str] = []
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            try:
                fetch(server)
            except OSError as problem:
                problems.append(str(problem))
            over.wait(0.01)  # two cores carry the servers as well

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield problems
    finally:
        over.set()
        thread.join()
    assert problems == []


def reloads(server: GunicornProcess) -> int:
    return server.output().count("Hang up: Master")


@pytest.mark.parametrize("workers", [1, 2])
def test_hup_brings_the_new_application_and_loses_no_request(
    serve: Serve, folder: Path, workers: int
) -> None:
    server = serve("--workers", str(workers)).wait_until_serving()
    old = all_serving(server, workers)
    with answering(server):
        mend_site(folder, version=2)
        server.send_signal(signal.SIGHUP)
        wait_until(lambda: not alive(old), "the old workers have ended")
        assert fetch(server)["version"] == 2
    assert len(workers_booted(server)) == 2 * workers
    assert server.stop() == 0


def all_serving(server: GunicornProcess, workers: int) -> set[int]:
    """The process ids of so many workers, once they all serve: each then counts itself."""

    def counted() -> bool:
        with urllib.request.urlopen(f"{server.url}/_ops/metrics", timeout=30) as answer:
            return f"\nappserver_workers {workers}\n" in answer.read().decode()

    wait_until(counted, f"{workers} workers serve")
    return set(workers_booted(server))


def alive(pids: set[int]) -> set[int]:
    """Those that have not ended; a worker that has is reaped by its arbiter."""
    return {pid for pid in pids if Path(f"/proc/{pid}").exists()}


@pytest.mark.parametrize("workers", [1, 2])
def test_hup_with_a_broken_application_leaves_the_old_workers_serving(
    serve: Serve, folder: Path, workers: int
) -> None:
    server = serve("--workers", str(workers)).wait_until_serving()
    old = all_serving(server, workers)
    with answering(server):
        break_site(folder)
        for attempt in (1, 2):
            server.send_signal(signal.SIGHUP)
            wait_until(
                lambda: server.output().count("This worker serves on") == attempt * workers,  # noqa: B023
                "the old workers say that they stay",
            )
            assert alive(old) == old
        assert "SyntaxError" in server.output()
        mend_site(folder, version=3)
        server.send_signal(signal.SIGHUP)
        wait_until(lambda: not alive(old), "the old workers have ended")
        assert fetch(server)["version"] == 3
    assert server.stop() == 0


def test_a_broken_application_after_recycling_is_tried_again(serve: Serve, folder: Path) -> None:
    """Nobody serves on here: the worker has ended by itself."""
    server = serve("--max-requests", "2").wait_until_serving()
    break_site(folder)
    fetch(server)
    server.wait_for_output("The next attempt to start a worker is in 1 s")
    mend_site(folder, version=2)
    assert fetch(server)["version"] == 2  # its connection waits until a worker accepts
    assert server.process is not None
    assert server.process.poll() is None


def test_recycling_goes_on_while_requests_come(serve: Serve) -> None:
    server = serve("--max-requests", "20", "--workers", "2").wait_until_serving()
    with answering(server):
        wait_until(lambda: len(workers_booted(server)) >= 5, "workers have been replaced")


def test_a_storage_of_one_process_is_handed_over(serve: Serve, folder: Path) -> None:
    """The old worker has it until it has answered all that it has in hand."""
    server = serve(storage=f"file://{folder}/Data.fs").wait_until_serving()
    first = fetch(server)["pid"]
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(fetch(server, "until=go-on")["pid"]))
    with answering(server):
        thread.start()
        wait_until((folder / "waits").exists, "a request is in hand")
        server.send_signal(signal.SIGHUP)
        server.wait_for_output("another process holds its lock")
        (folder / "go-on").touch()
        server.wait_for_output("it is open now, going on")
        wait_until(lambda: fetch(server)["pid"] != first, "the new worker answers")
    thread.join()
    assert found == [first]


def test_usr2_starts_a_second_arbiter_that_outlives_the_first(serve: Serve, folder: Path) -> None:
    server = serve("--pid", "site.pid").wait_until_serving()
    first = fetch(server)["pid"]
    with answering(server):
        mend_site(folder, version=2)
        server.send_signal(signal.SIGUSR2)
        wait_until(lambda: len(workers_booted(server)) == 2, "the new arbiter has a worker")
        wait_until(lambda: server.output().count("Serving http") == 2, "it serves")
        server.send_signal(signal.SIGTERM)
        assert server.wait() == 0
        assert fetch(server)["version"] == 2
        assert fetch(server)["pid"] != first
        wait_until(
            lambda: pid_in(folder / "site.pid") not in (0, server.pid), "the new one is promoted"
        )
    os.kill(pid_in(folder / "site.pid"), signal.SIGTERM)
    wait_until(lambda: server.output().count("Shutting down: Master") == 2, "both have ended")


def pid_in(file: Path) -> int:
    return int(file.read_text()) if file.exists() else 0


def test_term_ends_a_worker_that_waits_for_its_replacement(serve: Serve, folder: Path) -> None:
    """The replacement takes long to load; SIGTERM to gunicorn is no restart."""
    server = serve("--graceful-timeout", "3").wait_until_serving()
    (folder / "mysite.py").write_text("import time\ntime.sleep(60)\n")
    for compiled in (folder / "__pycache__").glob("mysite.*"):
        compiled.unlink()
    server.send_signal(signal.SIGHUP)
    wait_until(lambda: len(workers_booted(server)) == 2, "the replacement starts")
    server.send_signal(signal.SIGTERM)
    assert server.wait() == 0
    assert "Worker graceful timeout" not in server.output()


def test_a_request_in_hand_is_finished_before_the_worker_ends(serve: Serve) -> None:
    server = serve().wait_until_serving()
    first = fetch(server)["pid"]
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(fetch(server, "sleep=2")["pid"]))
    thread.start()
    server.send_signal(signal.SIGHUP)
    wait_until(lambda: fetch(server)["pid"] != first, "the new worker answers")
    thread.join()
    assert len(found) == 1
