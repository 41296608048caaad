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

def application(environ):
    calculate(0.6)

environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/slow\\nthing"}
environ["nti.appserver.request_id"] = "id-1"
for _ in range(2):
    greenlet = gevent.spawn(application, environ)
    greenlet.join()
    gevent.sleep(0.4)
monitor.stop()
calculate(0.5)
assert len(reports) == 2, reports
assert BLOCKED.value == 2
for part in ("has not run for 0.1 s", "GET '/slow\\\\nthing' id-1", "in calculate", "<Greenlet"):
    assert part in reports[0], (part, reports[0])
print("ok")
"""


def test_it_names_request_greenlet_and_stack_once_for_each_incident() -> None:
    assert run(BLOCKED) == "ok\n"
