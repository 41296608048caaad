"""The application goes away and comes back: fronts say so at once, and notice at once.

One outage for all fronts together.
"""

import time
from collections.abc import Callable, Iterator

import pytest

from nti.appserver.testing.process import wait_until
from tests.deploy import programs
from tests.deploy.conftest import fronts
from tests.deploy.fronts import FRONTS, Front, Site

#: The shortest timeout of a front: one that waits for a connection takes so long each time.
AT_ONCE_SECONDS = 4


@pytest.fixture(scope="module")
def outage(site: Site, running: Callable[[str], Front]) -> Iterator[Callable[[], None]]:
    """The application is gone; call it to have it back."""
    for kind in FRONTS:
        if not kind.name.startswith("pound") or programs.find("pound"):
            assert running(kind.name).ask("/dataserver2/x")[0].status == 200
    for app in site.apps.values():
        app.stop()
    over = False

    def end() -> None:
        nonlocal over
        if not over:
            over = True
            for app in site.apps.values():
                app.start()

    yield end
    end()


@fronts(lambda kind: kind.files)
def test_without_the_application_the_front_says_so_at_once(
    front: Front, outage: Callable[[], None]
) -> None:
    taken = []
    for _ in range(3):
        began = time.monotonic()
        response, _ = front.ask("/dataserver2/x")
        taken.append(time.monotonic() - began)
        assert response.status in (502, 503)
    assert min(taken) < AT_ONCE_SECONDS


@fronts(lambda kind: kind.files)
def test_without_the_application_files_are_served(front: Front, outage: Callable[[], None]) -> None:
    assert front.ask("/style.css")[0].status == 200


@fronts()
def test_the_front_notices_that_the_application_is_back(
    front: Front, outage: Callable[[], None]
) -> None:
    outage()
    wait_until(lambda: front.ask("/dataserver2/x")[0].status == 200, "the front passes requests on")
    # And stays so: no server is marked as bad for a while.
    for _ in range(5):
        assert front.ask("/dataserver2/x")[0].status == 200
