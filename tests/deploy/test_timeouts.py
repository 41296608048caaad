"""Silences: those that long polls and WebSockets need are kept, longer ones are ended.

All fronts wait at the same time. They allow `SHORT` seconds, the server pings every
`PING`: about a fifteenth and a twelfth of the defaults.
"""

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from queue import Queue

import pytest

from nti.appserver.testing.socketio import SocketIO
from tests.deploy import programs
from tests.deploy.fronts import FRONTS, PING, Front, Kind, Site

#: The longest silence that these fronts allow, seconds.
SHORT = 4
assert PING < SHORT

#: How long sessions are left alone: well past that.
WATCH_SECONDS = 2.5 * SHORT


@dataclass
class Vigil:
    """One front, left alone since `began`."""

    began: float
    polling: SocketIO
    websocket: SocketIO
    silence: "Queue[tuple[int, float]]"

    def wait(self) -> None:
        time.sleep(max(0.0, self.began + WATCH_SECONDS - time.monotonic()))


def ask_for_silence(front: Front, answers: "Queue[tuple[int, float]]") -> None:
    began = time.monotonic()
    response, _ = front.ask(f"/dataserver2/silent?{3 * SHORT}", timeout=30)
    answers.put((response.status, time.monotonic() - began))


@pytest.fixture(scope="module")
def vigils(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Vigil]]:
    own = replace(site, folder=tmp_path_factory.mktemp("short"), timeout=SHORT)
    found: dict[str, Vigil] = {}
    with ExitStack() as stack:
        for kind in FRONTS:
            if kind.name.startswith("pound") and programs.find("pound") is None:
                continue
            front = Front(kind, own).start(stack)
            answers: Queue[tuple[int, float]] = Queue()
            threading.Thread(target=ask_for_silence, args=(front, answers), daemon=True).start()
            polling = stack.enter_context(front.socketio("polling"))
            websocket = stack.enter_context(front.socketio("websocket"))
            found[kind.name] = Vigil(time.monotonic(), polling, websocket, answers)
        yield found


@pytest.fixture
def vigil(request: pytest.FixtureRequest, vigils: dict[str, Vigil]) -> Vigil:
    if request.param not in vigils:
        programs.need(request.param.split()[0])
    return vigils[request.param]


def each(kinds: Iterable[Kind]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("vigil", [kind.name for kind in kinds], indirect=True)


@each(FRONTS)
def test_a_session_outlives_the_front_s_timeout(vigil: Vigil) -> None:
    vigil.wait()
    for client in (vigil.polling, vigil.websocket):
        client.call("say", "still here")
        assert client.wait_for("said") == ("still here",)


@each(kind for kind in FRONTS if kind.files)
def test_a_longer_silence_is_ended(vigil: Vigil) -> None:
    """So the timeout was in force when the sessions outlived it."""
    status, seconds = vigil.silence.get(timeout=30)
    assert status in (500, 502, 503, 504)
    assert SHORT - 0.5 < seconds < 3 * SHORT
