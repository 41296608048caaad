"""Operations on real workers: totals over processes, dumps, status, recycling, crash loops."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from nti.appserver.testing.process import wait_until
from tests.ops.conftest import ROOT, Site

Serve = Callable[..., Site]

STATUS = [sys.executable, "-c", "from nti.appserver.ops.status import status; status()"]


def status(site: Site, *options: str) -> "subprocess.CompletedProcess[str]":
    """`nti-appserver status` in the site's folder."""
    environ = {**os.environ, "PYTHONPATH": os.fspath(ROOT)}
    return subprocess.run(
        [*STATUS, *options], cwd=site.cwd, env=environ, capture_output=True, text=True, timeout=60
    )


def test_every_worker_tells_the_totals_of_all(serve: Serve) -> None:
    site = serve("-w", "2").wait_until_serving()
    wait_until(lambda: site.metric("appserver_workers") == 2, "two workers")
    wait_until(lambda: len(site.workers()) == 2, "both workers serve")
    # The other worker's last requests are in its record within a second.
    wait_until(
        lambda: site.metric("appserver_requests_total", status="2xx") == site.asked,
        "all requests are counted once",
    )


def test_a_total_never_goes_back_when_workers_die(serve: Serve) -> None:
    site = serve("-w", "2", CRASH_LOOP="0").wait_until_serving()
    told = 0.0
    for number in range(12):
        for _ in range(5):
            site.get("/")
        if number % 4 == 3:
            os.kill(int(site.get("/").body), signal.SIGKILL)
            wait_until(lambda: site.get("/").status == 200, "the site goes on")
        now = site.metric("appserver_requests_total", status="2xx")
        assert now >= told
        told = now
    assert told > 0
    wait_until(lambda: site.metric("appserver_workers") == 2, "the dead are not counted")


def test_an_orderly_end_loses_no_count(serve: Serve) -> None:
    site = serve("-w", "1").wait_until_serving()
    old = site.workers()
    site.send_signal(signal.SIGHUP)
    wait_until(lambda: not site.workers() & old, "the new worker serves alone")
    wait_until(lambda: site.metric("appserver_workers") == 1, "the old worker has gone")
    wait_until(
        lambda: site.metric("appserver_requests_total", status="2xx") == site.asked,
        "all requests are counted once",
    )


def test_metrics_are_hidden_from_a_proxys_clients(serve: Serve) -> None:
    site = serve().wait_until_serving()
    assert site.get("/_ops/metrics").status == 200
    assert site.get("/_ops/metrics", X_Forwarded_For="203.0.113.9").status == 404
    assert site.get("/_ops/ping", X_Forwarded_For="127.0.0.1").status == 404


def test_one_id_from_the_proxy_to_every_log(serve: Serve) -> None:
    site = serve("--access-logfile", "-").wait_until_serving()
    answer = site.get("/log?token=s3cret", X_Request_ID="edge-7")
    request_id = answer.headers["X-Request-ID"]
    assert request_id == "edge-7", "a peer on this machine is trusted"
    site.wait_for_output(f"[{request_id}] site: a line about")
    site.wait_for_output(f"[{request_id}] site: a line of a child")
    wait_until(
        lambda: re.search(rf"GET /log\?token=\*\*\* .* {request_id}\n", site.output()),
        "the access log has the id and not the token",
    )


def test_json_logs(serve: Serve) -> None:
    site = serve("--access-logfile", "-", LOG_FORMAT="json").wait_until_serving()
    request_id = site.get("/log?about=x").headers["X-Request-ID"]
    site.wait_for_output('"path": "/log"')
    found = [json.loads(line) for line in site.output().splitlines() if line.startswith("{")]
    assert len(found) == len(site.output().splitlines()), "every line, the arbiter's too"
    ours = {line["logger"]: line for line in found if line["request_id"] == request_id}
    assert set(ours) == {"site", "gunicorn.access"}
    assert ours["gunicorn.access"]["status"] == 200
    assert ours["site"]["thread"] != "MainThread", "the greenlet's name"


def test_ready_says_that_the_hub_was_blocked(serve: Serve) -> None:
    site = serve(BLOCKED_HUB="0.3").wait_until_serving()
    # A busy machine may have kept it from running while it started.
    wait_until(lambda: site.get("/_ops/ready").json["ready"], "ready")
    site.get("/busy?seconds=1")
    wait_until(lambda: site.get("/_ops/ready").status == 200, "ready again")
    assert site.metric("appserver_hub_lateness_worst_seconds") > 0.5


def test_status_shows_each_worker(serve: Serve) -> None:
    site = serve("-w", "2").wait_until_serving()
    wait_until(lambda: site.metric("appserver_workers") == 2, "two workers")
    wait_until(lambda: status(site).returncode == 0, "all are well")
    done = status(site)
    assert f"2 workers of gunicorn {site.pid}" in done.stdout
    for number in site.workers():
        assert re.search(rf"^ *{number} .* serving +\d+ .* MiB", done.stdout, re.MULTILINE)


@contextlib.contextmanager
def asking(site: Site, path: str) -> Iterator[None]:
    """A request that is worked on until this ends; its answer comes then."""
    asked = threading.Thread(target=site.get, args=(f"{path}?until=enough",))
    asked.start()
    try:
        yield
    finally:
        (site.cwd / "enough").touch()
        asked.join(30)


def test_status_shows_the_stack_of_a_waiting_greenlet(serve: Serve) -> None:
    site = serve("-w", "1").wait_until_serving()
    with asking(site, "/wait"):
        wait_until(lambda: "in _wait" in status(site, "--stacks").stdout, "the line that waits")
        found = json.loads(status(site, "--json").stdout)["workers"][0]["stacks"]
        names = [name for group in found["groups"] for name in group["names"]]
        assert any("[request " in name for name in names)


def test_status_shows_what_blocks_a_worker(serve: Serve) -> None:
    site = serve("-w", "1").wait_until_serving()
    with asking(site, "/busy"):
        wait_until(lambda: "in _busy" in status(site, "--stacks").stdout, "the line that blocks")


def test_status_tells_a_worker_that_does_not_answer(serve: Serve) -> None:
    site = serve("-w", "1").wait_until_serving()
    number = int(site.get("/").body)
    os.kill(number, signal.SIGSTOP)
    try:
        done = status(site)
        assert done.returncode == 1
        assert f"worker {number}: runs no Python code" in done.stdout
    finally:
        os.kill(number, signal.SIGCONT)


def test_status_without_a_site(tmp_path: Path) -> None:
    done = subprocess.run(STATUS, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "no worker has written to" in done.stderr
    assert "name the site's var with --var" in done.stderr


def test_a_wrong_setting_is_not_sought_in_another_folder(tmp_path: Path) -> None:
    environ = {**os.environ, "NTI_APPSERVER_ATTEMPTS": "many"}
    done = subprocess.run(
        STATUS, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert "attempts is 'many'" in done.stderr
    assert "--var" not in done.stderr


def test_a_signal_writes_the_stacks_of_all_greenlets(serve: Serve) -> None:
    site = serve("-w", "1").wait_until_serving()
    os.kill(int(site.get("/").body), signal.SIGURG)
    site.wait_for_output("stacks of ")
    path = re.search(r"greenlets are in (\S+)", site.output())
    assert path is not None
    found = json.loads((site.cwd / path[1]).read_text())
    assert any("housekeeping" in group["names"] for group in found["groups"])


def test_a_worker_that_grows_too_large_is_replaced(serve: Serve) -> None:
    site = serve("-w", "1", WORKER_MEMORY="200m").wait_until_serving()
    old = site.get("/grow?mib=250").body
    wait_until(lambda: site.get("/").body != old, "another worker serves")
    site.wait_for_output("is over the 200 MiB of worker_memory")
    assert site.metric("appserver_workers_recycled_total") == 1


def test_workers_that_have_grown_old_are_replaced(serve: Serve) -> None:
    site = serve("-w", "2", WORKER_AGE="1").wait_until_serving()
    first = site.workers()
    wait_until(lambda: not site.workers() & first, "all have been replaced", seconds=60)
    site.wait_for_output("s old, and worker_age is about that")


def test_a_site_whose_workers_crash_is_stopped_with_a_message(serve: Serve, tmp_path: Path) -> None:
    config = tmp_path / "gunicorn.conf.py"
    config.write_text("from tests.ops.crash import post_worker_init\n")
    site = serve("-c", str(config), CRASH_LOOP="3")
    assert site.wait() == 3
    assert "3 workers in a row crashed within 10 s of their start" in site.output()
    assert site.output().count("Booting worker") == 3


def test_workers_that_reach_max_requests_together_leave_one_at_a_time(serve: Serve) -> None:
    """While one finishes what it has in hand, the other serves on past its number."""
    site = serve("-w", "2", "--max-requests", "30").wait_until_serving()
    wait_until(lambda: len(site.workers()) == 2, "both serve")
    with contextlib.ExitStack() as waiting:
        for _ in range(8):  # whoever goes first has one of these to finish
            waiting.enter_context(asking(site, "/wait"))
        wait_until(lambda: site.workers() and _draining(site), "one is replaced")
        (leaving,) = _draining(site)
        served = {int(site.get("/").body) for _ in range(100)}
        assert len(served) == 1
        assert leaving not in served
        assert _draining(site) == {leaving}
    wait_until(lambda: not site.workers() & {leaving, *served}, "both have been replaced")


def _draining(site: Site) -> set[int]:
    """The workers that finish what they have in hand."""
    found = json.loads(status(site, "--json").stdout)["workers"]
    return {each["worker"][0] for each in found if each["state"] == "draining (restart)"}


def test_status_leaves_out_who_has_ended(serve: Serve) -> None:
    """A worker that a reload has replaced is no trouble, even while its process goes."""
    site = serve("-w", "2").wait_until_serving()
    wait_until(lambda: site.metric("appserver_workers") == 2, "two workers")
    old = site.workers()
    site.send_signal(signal.SIGHUP)
    wait_until(lambda: not site.workers() & old, "the new ones serve alone")
    for _ in range(5):
        said = status(site).stdout
        assert not [worker for worker in old if f"worker {worker}: runs no" in said], said
    wait_until(lambda: status(site).returncode == 0, "all are well")
