"""What the readme shows works as it stands there."""

import re
import textwrap
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from nti.appserver.testing.process import GunicornProcess
from tests.house.source import ROOT


def example() -> tuple[str, str]:
    """The readme's application: the name of its file and its code."""
    text = (ROOT / "README.rst").read_text("utf-8")
    found = re.search(r"\.\. code-block:: python\n\n((?:    .*\n|\n)+)", text)
    assert found is not None
    code = textwrap.dedent(found[1])
    name = re.match(r"# (\w+\.py)\n", code)
    assert name is not None, "the first line names the file"
    return name[1], code


def visit(url: str) -> str:
    """One visit's answer; where the attempts were not enough, the visitor comes back as told."""
    ends = time.monotonic() + 30
    while True:
        try:
            with urllib.request.urlopen(url, b"", timeout=30) as answer:
                return str(answer.read().decode())
        except urllib.error.HTTPError as refused:
            with refused:
                if refused.status != 503 or time.monotonic() > ends:
                    raise
                time.sleep(float(refused.headers["Retry-After"]))


def test_the_readmes_application_counts_visits_and_loses_none(tmp_path: Path) -> None:
    name, code = example()
    (tmp_path / name).write_text(code)
    module = name.removesuffix(".py")
    environ = {"NTI_APPSERVER_APPLICATION": f"{module}:main"}
    app = "nti.appserver.gunicorn:app"
    with GunicornProcess(app, "-w", "4", cwd=tmp_path, environ=environ) as site:
        site.wait_until_serving()
        with ThreadPoolExecutor(2) as visitors:
            seen = set(visitors.map(visit, [f"{site.url}/count"] * 20))
        assert seen == {f'{{"visits": {number}}}' for number in range(1, 21)}
