"""The monitor of a blocked hub in a real worker: on by default, one report for each incident."""

from pathlib import Path

from nti.appserver.testing.process import wait_until
from tests.storage.sites import Site

SOURCE = """
import time

def calculate(seconds):
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        sum(range(1000))

def answer(environ, start_response):
    if environ["PATH_INFO"] == "/slow":
        calculate(2.5)
    start_response("200 OK", [("Content-Length", "0")])
    return []

def main():
    return answer
"""


def test_it_names_the_request_the_greenlet_and_the_stack_once(tmp_path: Path) -> None:
    with Site(tmp_path, source=SOURCE, storage="none") as site:
        site.wait_until_serving()
        for number in (1, 2):
            assert site.ask("GET", "/slow")[0] == 200
            wait_until(
                lambda number=number: site.output().count("GET '/slow'") >= number, "a report"
            )
            assert site.ask("GET", "/")[0] == 200
        assert site.output().count("  request: GET '/slow'") == 2
        report = site.output().partition("  request: GET '/slow'")
        assert "the hub has not run for 0.5 s" in report[0]
        assert "  greenlet: <" in report[0].splitlines()[-1]
        assert "in calculate" in report[2]


def test_the_setting_turns_it_off(tmp_path: Path) -> None:
    with Site(tmp_path, source=SOURCE, storage="none", blocked_hub="0") as site:
        site.wait_until_serving()
        assert site.ask("GET", "/slow")[0] == 200
        assert "the hub has not run" not in site.output()
