"""Events and connects are units of work: tried again with their arguments, emits once."""

import pytest

from nti.appserver.testing.process import GunicornProcess, wait_until
from nti.appserver.testing.socketio import ConnectRefused, Event

from .conftest import Connect, get


def test_an_event_that_conflicts_runs_again_and_emits_once(connect: Connect) -> None:
    client = connect("/units")
    assert client.receive() == Event("entered", ())
    assert client.call("conflict", "event", 2) == [3]
    # emit_now does not wait for the commit, so each try has made its progress known.
    assert client.pending() == [
        *[Event("progress", ())] * 3,
        Event("first", ("event",)),
        Event("second", ("event",)),
    ]


def test_an_event_that_goes_on_conflicting_has_no_effect(
    connect: Connect, server: GunicornProcess
) -> None:
    client = connect("/units")
    with pytest.raises(TimeoutError):
        client.call("conflict", "always", 1000, timeout=2)
    wait_until(lambda: "TransientError" in server.output(), "the failure is logged")
    assert client.call("conflict", "fine", 0) == [1]
    names = [event.name for event in client.pending()]
    assert names[:4] == ["entered", "progress", "progress", "progress"]  # the setting `attempts`
    assert names[4:] == ["progress", "first", "second"]


@pytest.mark.parametrize("event", ["fail", "doom"])
def test_an_event_that_fails_emits_nothing(connect: Connect, event: str) -> None:
    client = connect("/units")
    client.emit(event)
    assert client.call("conflict", f"after {event}", 0) == [1]
    assert "never" not in [event.name for event in client.pending()]


def test_connecting_conflicts_and_is_tried_again(connect: Connect) -> None:
    client = connect("/units", auth={"conflicts": 1})
    assert client.call("conflict", "connected", 0) == [1]
    assert [event.name for event in client.pending()].count("entered") == 1


@pytest.mark.parametrize(
    ("how", "data"),
    [
        ("false", {"message": "Connection rejected by server"}),
        ("error", {"message": "not you", "data": {"code": 7}}),
        ("bug", {"message": "Internal server error"}),
    ],
)
def test_a_refused_connect_says_why_and_emits_nothing(
    connect: Connect, how: str, data: object
) -> None:
    with pytest.raises(ConnectRefused) as refused:
        connect("/units", auth={"refuse": how})
    assert refused.value.data == data


def test_a_clients_events_are_handled_in_order(connect: Connect, server: GunicornProcess) -> None:
    """More than may wait at a time: the client is read no further for a while."""
    client = connect("/units")
    for number in range(300):
        client.emit("slow", number)
    wait_until(lambda: ["slow", 299] in get(server, "/"), "the last event is handled")
    assert [note[1] for note in get(server, "/") if note[0] == "slow"] == list(range(300))


def test_emits_of_requests_go_out_on_commit(connect: Connect, server: GunicornProcess) -> None:
    client = connect("/")
    get(server, "/unit?committed")
    assert client.wait_for("news") == ("committed",)
    get(server, "/aborted")
    assert client.wait_for("news") == ("at once",)
    get(server, "/emit?last")
    assert client.wait_for("news") == ("last",)
