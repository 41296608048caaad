"""Clients of every transport in namespaces: events, rooms, acknowledgements, ends."""

import pytest

from nti.appserver.testing.process import GunicornProcess, wait_until
from nti.appserver.testing.socketio import ConnectRefused, Ended, Event

from .conftest import TRANSPORTS, Connect, get


@pytest.fixture(params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> str:
    return request.param


def test_what_connect_emits_follows_the_connect_itself(connect: Connect, transport: str) -> None:
    client = connect("/other", transport=transport, auth={"a": 1})
    assert client.sid
    assert client.receive() == Event("welcome", ({"auth": {"a": 1}, "path": "/socket.io/"},))
    assert client.transport == ("polling" if transport == "polling" else "websocket")


def test_an_event_is_acknowledged(connect: Connect, transport: str) -> None:
    client = connect(transport=transport)
    assert client.call("say", "one", {"two": [2]}) == ["heard", 2]
    assert client.wait_for("said") == ("one", {"two": [2]})


def test_binary_data_both_ways(connect: Connect, transport: str) -> None:
    client = connect(transport=transport)
    data = bytes(range(256))
    assert client.call("say", data, {"deep": [data]}) == ["heard", 2]
    assert client.wait_for("said") == (data, {"deep": [data]})


def test_a_broadcast_reaches_every_transport(connect: Connect, server: GunicornProcess) -> None:
    clients = [connect(transport=transport) for transport in TRANSPORTS]
    get(server, "/emit?hello")
    for client in clients:
        assert client.wait_for("news") == ("hello",)


def test_a_binary_broadcast_reaches_every_transport(
    connect: Connect, server: GunicornProcess
) -> None:
    """engineio keeps one encoding for both transports, and then disconnects who polls."""
    clients = [connect(transport=transport) for transport in (*TRANSPORTS, *TRANSPORTS[::-1])]
    get(server, "/binary")
    for client in clients:
        assert client.wait_for("data") == (b"\x00\xff",)
    for client in clients:
        assert client.call("say", "still here") == ["heard", 1]


def test_skipping_the_sender(connect: Connect) -> None:
    sender, other = connect(), connect()
    sender.emit("others", "psst")
    assert other.wait_for("said") == ("psst",)
    sender.call("say", "loud")
    assert [event.args for event in sender.pending() if event.name == "said"] == [("loud",)]


def test_leaving_a_room(connect: Connect) -> None:
    client, other = connect(), connect()
    rooms = client.call("leave")[0]
    assert rooms == [client.sid]
    other.call("say", "to the room")
    client.call("say", "")  # whatever was sent before would have come
    assert not [event for event in client.pending() if event.args == ("to the room",)]


def test_namespaces_are_apart(connect: Connect) -> None:
    here, there = connect("/"), connect("/other")
    here.call("say", "here")
    there.call("say", "there")
    assert there.wait_for("said") == ("there",)
    assert here.wait_for("said") == ("here",)


def test_an_unknown_namespace_is_refused(connect: Connect, transport: str) -> None:
    with pytest.raises(ConnectRefused) as refused:
        connect("/nowhere", transport=transport)
    assert refused.value.data == {"message": "Invalid namespace"}


def test_a_handler_may_wait_for_its_client(connect: Connect) -> None:
    """The acknowledgement is taken while the event that waits for it is under way."""
    from socketio.packet import EVENT, Packet

    client = connect()
    client.receive()
    client._send(Packet(EVENT, ["ask", 5], namespace="/", id=77))
    answers = client._acks[77] = type(client._events)()
    question = client.receive()
    assert question == Event("question", (5,))
    client.send_packet("431[42]")
    assert client._get(answers) == [42]


def test_an_event_without_a_handler_is_not_acknowledged(connect: Connect) -> None:
    client = connect()
    with pytest.raises(TimeoutError):
        client.call("nothing", timeout=0.3)
    assert client.call("say") == ["heard", 0]


def test_the_server_has_a_client_leave(
    connect: Connect, server: GunicornProcess, transport: str
) -> None:
    client = connect(transport=transport)
    client.emit("kick")
    assert client.wait_for_end() == "disconnect"
    wait_until(lambda: ["gone", "/", "server disconnect"] in get(server, "/"), "on_disconnect ran")


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        (lambda client: client.disconnect(), "client disconnect"),
        (lambda client: client.close(), "transport close"),
    ],
    ids=["politely", "without a word"],
)
def test_a_client_leaves(connect: Connect, server: GunicornProcess, how, reason: str) -> None:
    client = connect("/other")
    before = get(server, "/").count(["gone", "/other", reason])
    how(client)
    wait_until(
        lambda: get(server, "/").count(["gone", "/other", reason]) == before + 1,
        "on_disconnect ran once",
    )


def test_python_socketios_own_namespaces(connect: Connect, server: GunicornProcess) -> None:
    client = connect("/plain")
    assert client.receive() == Event("hello", ())
    assert client.call("echo", {"a": 1}) == [{"a": 1}]
    client.close()
    wait_until(lambda: ["plain gone"] in get(server, "/"), "on_disconnect(sid) ran")


def test_the_client_says_that_it_has_ended(connect: Connect) -> None:
    client = connect()
    client.close()
    with pytest.raises(Ended, match="closed here"):
        client.wait_for("nothing")
