"""Engine.IO's rules (revision 4), on the wire."""

import http.client
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any
from urllib.parse import urlencode

import pytest

from nti.appserver.testing.process import GunicornProcess, wait_until
from nti.appserver.testing.socketio import Polling, RequestFailed, SocketIO
from nti.appserver.testing.websocket import HandshakeRefused, WebSocket

from .conftest import get

_opened: list[Polling | WebSocket] = []


@pytest.fixture(autouse=True)
def _ended() -> Iterator[None]:
    """End what the test has opened."""
    yield
    while _opened:
        client = _opened.pop()
        client.close() if isinstance(client, Polling) else client.abort()


def poller(server: GunicornProcess, sid: str = "") -> Polling:
    """A client that polls, for a session that there is or for none yet."""
    polling = Polling(server.url, (), 30)
    polling.sid = sid
    _opened.append(polling)
    return polling


def poll(server: GunicornProcess) -> Polling:
    """A session by polling, opened and in no namespace yet."""
    polling = poller(server)
    packet = polling.receive()[0]
    assert isinstance(packet, str)
    polling.sid = json.loads(packet[1:])["sid"]
    return polling


def socket(server: GunicornProcess, **fields: str) -> WebSocket:
    query = urlencode({"EIO": "4", "transport": "websocket", **fields})
    ws = WebSocket(f"ws://127.0.0.1:{server.port}/socket.io/?{query}")
    _opened.append(ws)
    return ws


def in_background(function: Callable[[], Any]) -> Callable[[], Any]:
    """Start `function`; what is returned waits for its result, or the failure it raised."""
    results: list[Any] = []

    def work() -> None:
        try:
            results.append(function())
        except Exception as problem:
            results.append(problem)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()

    def wait() -> Any:
        thread.join(40)
        assert results, "still under way"
        return results[0]

    return wait


def request(
    server: GunicornProcess, method: str, query: str, body: str = "", **headers: str
) -> tuple[int, dict[str, str], str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.request(method, f"/socket.io/?{query}", body or None, headers)
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    return response.status, dict(response.getheaders()), text


def test_the_handshake_says_what_the_client_must_know(server: GunicornProcess) -> None:
    polling = poller(server)
    packet = polling.receive()[0]
    assert isinstance(packet, str)
    assert packet[0] == "0"
    handshake = json.loads(packet[1:])
    assert re.fullmatch(r"[0-9a-f]{8}\.[\w-]{20}", handshake.pop("sid"))
    assert handshake == {
        "upgrades": ["websocket"],
        "pingInterval": 25_000,
        "pingTimeout": 20_000,
        "maxPayload": 100 * 1024,
    }


@pytest.mark.parametrize(
    ("method", "query", "code"),
    [
        ("GET", "EIO=4", 0),
        ("GET", "EIO=4&transport=carrier-pigeon", 0),
        ("GET", "transport=polling", 5),
        ("GET", "EIO=3&transport=polling", 5),
        ("GET", "EIO=4&transport=polling&sid=unknown", 1),
        ("POST", "EIO=4&transport=polling&sid=unknown", 1),
        ("POST", "EIO=4&transport=polling", 2),
        ("PUT", "EIO=4&transport=polling", 2),
        ("GET", "EIO=4&transport=websocket", 3),
        ("GET", "&".join(f"f{n}=1" for n in range(40)), 3),
    ],
)
def test_bad_requests(server: GunicornProcess, method: str, query: str, code: int) -> None:
    status, _, body = request(server, method, query)
    assert (status, json.loads(body)["code"]) == (400, code)


def test_a_websocket_with_a_bad_query_is_refused(server: GunicornProcess) -> None:
    with pytest.raises(HandshakeRefused) as refused:
        socket(server, EIO="3")
    assert refused.value.status == 400


# -- origins


def test_the_sites_own_pages_need_no_headers(server: GunicornProcess) -> None:
    status, headers, _ = request(server, "GET", "EIO=4&transport=polling", Origin=server.url)
    assert status == 200
    assert "Access-Control-Allow-Origin" not in headers


def test_a_listed_origin_may_read_the_answer(server: GunicornProcess) -> None:
    partner = "http://partner.example"
    status, headers, _ = request(server, "GET", "EIO=4&transport=polling", Origin=partner)
    assert status == 200
    assert headers["Access-Control-Allow-Origin"] == partner
    assert headers["Access-Control-Allow-Credentials"] == "true"
    status, headers, _ = request(
        server, "OPTIONS", "", Origin=partner, **{"Access-Control-Request-Headers": "x-a"}
    )
    assert status == 204
    assert headers["Access-Control-Allow-Headers"] == "x-a"


def test_any_other_origin_is_told_what_to_change(server: GunicornProcess) -> None:
    status, headers, body = request(
        server, "GET", "EIO=4&transport=polling", Origin="http://evil.example"
    )
    assert status == 403
    assert "Access-Control-Allow-Origin" not in headers
    message = json.loads(body)["message"]
    assert "saw 'http://evil.example'" in message
    assert "setting `origins`" in message


# -- polling


def test_a_post_is_answered_ok(server: GunicornProcess) -> None:
    polling = poll(server)
    assert polling.request("POST", "3") == "ok"


@pytest.mark.parametrize(
    "payload", ["abc", "2", "0", "4", "4abc", "49", "b!!!", "42[]", '42["connect"]', "43[1]", "45"]
)
def test_a_payload_that_is_none_ends_the_session(server: GunicornProcess, payload: str) -> None:
    polling = poll(server)
    with pytest.raises(RequestFailed) as failed:
        polling.request("POST", payload)
    assert failed.value.status == 400
    with pytest.raises(RequestFailed, match="Session ID unknown"):
        polling.receive()


def test_a_payload_that_is_too_big(server: GunicornProcess) -> None:
    polling = poll(server)
    with pytest.raises(RequestFailed) as failed:
        polling.request("POST", "4" + "x" * 200_000)
    assert failed.value.status == 413


def test_too_many_packets(server: GunicornProcess) -> None:
    polling = poll(server)
    with pytest.raises(RequestFailed, match="more than 256 packets"):
        polling.request("POST", "\x1e".join(["3"] * 300))


def test_too_many_attachments(server: GunicornProcess) -> None:
    polling = poll(server)
    with pytest.raises(RequestFailed, match="more than 64"):
        polling.request("POST", '4565-["say"]')


def test_two_polls_at_a_time_end_the_session(server: GunicornProcess) -> None:
    polling = poll(server)
    other = poller(server, polling.sid)
    waiting = [in_background(each.receive) for each in (polling, other)]
    answers = [each() for each in waiting]
    # Whichever came first waits, and is told of the end that the second has brought about.
    refused = [each for each in answers if isinstance(each, RequestFailed)]
    assert [each for each in answers if each not in refused] == [["1"]]
    assert "two polls" in str(refused[0])
    with pytest.raises(RequestFailed, match="Session ID unknown"):
        other.receive()


def test_the_client_closes_and_its_poll_ends(server: GunicornProcess) -> None:
    polling = poll(server)
    waiting = in_background(polling.receive)
    wait_until(lambda: get(server, f"/polls?{polling.sid}"), "the poll waits")
    assert polling.request("POST", "1") == "ok"
    assert waiting() == ["6"]
    with pytest.raises(RequestFailed, match="Session ID unknown"):
        polling.receive()


def test_a_client_that_does_not_poll_is_given_up(server: GunicornProcess) -> None:
    """Its queue is bounded."""
    client = SocketIO(server.url, transport="upgrade")  # only to know that others are well
    polling = poll(server)
    polling.send("40")
    packets = [packet for packet in polling.receive() if isinstance(packet, str)]
    sid = json.loads(packets[0][2:])["sid"]
    get(server, f"/flood?{sid}")
    with pytest.raises(RequestFailed, match="Session ID unknown"):
        polling.receive()
    assert client.call("say", "well") == ["heard", 1]
    client.close()


# -- WebSocket


@pytest.mark.parametrize("packet", ["abc", "2", "", "4", "46"])
def test_a_packet_that_is_none_ends_the_websocket(server: GunicornProcess, packet: str) -> None:
    ws = socket(server)
    ws.receive()
    ws.send(packet)
    ws.wait_for_close()


def test_binary_data_out_of_place_ends_the_websocket(server: GunicornProcess) -> None:
    ws = socket(server)
    ws.receive()
    ws.send(b"\x00")
    ws.wait_for_close()


def test_an_upgrade_that_is_not_gone_through_with_leaves_polling(server: GunicornProcess) -> None:
    polling = poll(server)
    polling.send("40")
    ws = socket(server, sid=polling.sid)
    ws.send("2probe")
    assert ws.receive() == "3probe"
    ws.send("nonsense")
    ws.wait_for_close()
    packets = polling.receive()
    while packets == ["6"]:
        packets = polling.receive()
    assert str(packets[0]).startswith("40{")


def test_after_an_upgrade_polling_is_over(server: GunicornProcess) -> None:
    polling = poll(server)
    waiting = in_background(polling.receive)
    ws = socket(server, sid=polling.sid)
    ws.send("2probe")
    assert ws.receive() == "3probe"
    assert waiting() == ["6"]
    ws.send("5")
    ws.send("40")
    assert str(ws.receive()).startswith("40{")
    with pytest.raises(RequestFailed, match="upgraded"):
        polling.receive()
    with pytest.raises(HandshakeRefused):
        socket(server, sid=polling.sid)
    ws.send('42["say"]')
    wait_until(lambda: '42["said"]' in str(ws.receive()), "the session goes on")


# -- time


def test_pings_are_answered_or_the_session_ends(hasty: GunicornProcess) -> None:
    polling = poller(hasty)

    def answered() -> bool:
        """Whether another ping follows the answer to the first, which a busy machine may miss."""
        polling.sid = ""
        try:
            polling.sid = json.loads(str(polling.receive()[0])[1:])["sid"]
            polling.send("40")
            while polling.receive() != ["2"]:
                pass
            polling.send("3")
            return polling.receive() == ["2"]
        except RequestFailed:
            return False

    wait_until(answered, "a session lasts whose ping is answered")
    wait_until(lambda: get(hasty, "/sessions") == 0, "the session that did not answer has ended")
    with pytest.raises(RequestFailed, match="Session ID unknown"):
        polling.receive()


def test_a_websocket_that_does_not_answer_pings_is_closed(hasty: GunicornProcess) -> None:
    ws = socket(hasty)
    ws.receive()
    ws.send("40")
    while ws.receive() != "2":
        pass  # the answers to its connecting
    ws.wait_for_close()


def test_a_session_that_joins_nothing_is_closed(hasty: GunicornProcess) -> None:
    ws = socket(hasty)
    ws.receive()
    began = time.monotonic()
    while ws.protocol.close_rcvd is None and time.monotonic() < began + 20:
        try:
            if ws.receive() == "2":
                ws.send("3")
        except AssertionError:
            break
    assert ws.protocol.close_rcvd is not None


def test_clients_that_answer_stay(hasty: GunicornProcess) -> None:
    """A machine that is too busy for them to answer in time is asked again."""

    def stayed() -> bool:
        with ExitStack() as stack, suppress(AssertionError, OSError):
            clients = [
                stack.enter_context(SocketIO(hasty.url, transport=transport))
                for transport in ("polling", "websocket", "upgrade")
            ]
            time.sleep(2.5)  # longer than both timeouts together
            return [client.call("say", "still here") for client in clients] == [["heard", 1]] * 3
        return False

    wait_until(stayed, "who answers stays", seconds=60)
