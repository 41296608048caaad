"""Silences: those that long polls and WebSockets need are kept, longer ones are ended.

All fronts wait at the same time. The fronts allow `TIMEOUT` seconds, the server
pings every `PING`: a fifteenth of what the templates say by themselves.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from queue import Queue

import pytest

from nti.appserver.testing.socketio import SocketIO
from tests.deploy import programs
from tests.deploy.conftest import fronts
from tests.deploy.fronts import FRONTS, TIMEOUT, Front, Kind

#: How long sessions are left alone: well past the fronts' timeout.
WATCH_SECONDS = 2.5 * TIMEOUT


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
    response, _ = front.ask(f"/dataserver2/silent?{3 * TIMEOUT}", timeout=30)
    answers.put((response.status, time.monotonic() - began))


@pytest.fixture(scope="module")
def vigils(running: Callable[[str], Front]) -> Iterator[dict[str, Vigil]]:
    found: dict[str, Vigil] = {}
    with ExitStack() as stack:
        for kind in FRONTS:
            if kind.name.startswith("pound") and programs.find("pound") is None:
                continue
            front = running(kind.name)
            answers: Queue[tuple[int, float]] = Queue()
            threading.Thread(target=ask_for_silence, args=(front, answers), daemon=True).start()
            polling = stack.enter_context(front.socketio("polling"))
            websocket = stack.enter_context(front.socketio("websocket"))
            found[kind.name] = Vigil(time.monotonic(), polling, websocket, answers)
        yield found


def has_timeouts(kind: Kind) -> bool:
    return kind.files


@fronts()
def test_a_session_outlives_the_front_s_timeout(front: Front, vigils: dict[str, Vigil]) -> None:
    vigil = vigils[front.kind.name]
    vigil.wait()
    for client in (vigil.polling, vigil.websocket):
        client.call("say", "still here")
        assert client.wait_for("said") == ("still here",)


@fronts(has_timeouts)
def test_a_longer_silence_is_ended(front: Front, vigils: dict[str, Vigil]) -> None:
    """So the timeout was in force when the sessions outlived it."""
    status, seconds = vigils[front.kind.name].silence.get(timeout=30)
    assert status in (500, 502, 503, 504)
    assert TIMEOUT - 0.5 < seconds < 3 * TIMEOUT
