"""A served site, and asking it."""

import http.client
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from nti.appserver.testing.process import PATIENCE_SECONDS, GunicornProcess

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Answer:
    status: int
    headers: Mapping[str, str]
    body: str

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Site(GunicornProcess):
    """`tests.ops.apps` under our worker; `asked` counts what its application has answered."""

    asked = 0

    def get(self, path: str, **headers: str) -> Answer:
        """One request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            sent = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request("GET", path, headers={"Connection": "close", **sent})
            response = connection.getresponse()
            body = response.read().decode()
            self.asked += response.status == 200 and not path.startswith("/_ops/")
            return Answer(response.status, dict(response.getheaders()), body)
        finally:
            connection.close()

    def metric(self, name: str, **labels: str) -> float:
        """A sample of /_ops/metrics, as Prometheus reads it; 0 where it is not there yet."""
        answer = self.get("/_ops/metrics")
        ends = time.monotonic() + PATIENCE_SECONDS
        while answer.status == 503 and time.monotonic() < ends:  # others have its lock for long
            time.sleep(float(answer.headers["Retry-After"]))
            answer = self.get("/_ops/metrics")
        assert answer.status == 200, answer.body
        return sum(
            sample.value
            for family in text_string_to_metric_families(answer.body)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def workers(self) -> set[int]:
        """The numbers of the processes that serve now."""
        return {int(self.get("/").body) for _ in range(30)}


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """Start a site: serve(*gunicorn options, SETTING=value), after the shell command `limit`."""
    running: list[Site] = []

    def start(*options: str, limit: str = "", **settings: str) -> Site:
        environ = {f"NTI_APPSERVER_{name}": value for name, value in settings.items()}
        environ["PYTHONPATH"] = os.fspath(ROOT)
        site = Site("tests.ops.apps:app", *options, cwd=tmp_path, environ=environ)
        if limit:
            site.command = ["sh", "-c", f'{limit} && exec "$@"', "sh", *site.command]
        running.append(site)
        site.start()
        return site

    yield start
    for site in running:
        site.stop()
