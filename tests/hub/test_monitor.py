"""The report of a blocked hub: what it names, and how often it comes."""

from nti.appserver.testing.patched import run

BLOCKED = """
import os, sys, time
import gevent
from nti.appserver.hub.monitor import BLOCKED, BlockedHubMonitor

reports = []
monitor = BlockedHubMonitor(0.1, reports.append)
monitor.start()

def calculate(seconds):
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        sum(range(1000))

def about_requests():
    return [report for report in reports if "GET '/slow" in report]

def application(environ):
    # Until there is a report, and for some thresholds more.
    ends, before = time.monotonic() + 30, len(about_requests())
    while len(about_requests()) == before and time.monotonic() < ends:
        calculate(0.1)
    calculate(0.4)

environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/slow\\nthing"}
environ["nti.appserver.request_id"] = "id-1"
for _ in range(2):
    greenlet = gevent.spawn(application, environ)
    greenlet.join()
    gevent.sleep(0.4)
monitor.stop()
calculate(0.5)
# Whoever runs while a busy machine stands still is told of, too.
assert BLOCKED.value == len(reports)
told = about_requests()
assert len(told) == 2, reports
for part in ("has not run for 0.1 s", "GET '/slow\\\\nthing' id-1", "in application", "<Greenlet"):
    assert part in told[0], (part, told[0])
print("ok")
"""


def test_it_names_request_greenlet_and_stack_once_for_each_incident() -> None:
    assert run(BLOCKED) == "ok\n"
