"""WebSockets on real sockets: the interface, the bounds and the ends of connections."""

import socket
import struct
import urllib.request

import pytest

from nti.appserver.testing.process import GunicornProcess, wait_until
from nti.appserver.testing.websocket import Closed, HandshakeRefused

from .conftest import Opener


def get(server: GunicornProcess, path: str) -> str:
    with urllib.request.urlopen(server.url + path, timeout=20) as response:
        return response.read().decode()


@pytest.mark.parametrize("deflate", [False, True], ids=["plain", "deflate"])
def test_echo(open_websocket: Opener, deflate: bool) -> None:
    ws = open_websocket("/echo", deflate=deflate)
    assert ("Sec-WebSocket-Extensions" in ws.response_headers) is deflate
    for message in ("hi", "", b"", b"\0" * 10, "é" * 50_000, b"x" * 1_000_000):
        ws.send(message)
        assert ws.receive() == message


def test_bytes_that_come_with_the_request_are_not_lost(server: GunicornProcess) -> None:
    head = (
        f"GET /echo HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        "Sec-WebSocket-Version: 13\r\n\r\n"
    )
    early = b"\x81\x82\0\0\0\0hi"
    with socket.create_connection(("127.0.0.1", server.port), 20) as connection:
        connection.sendall(head.encode() + early)
        received = b""
        while not received.endswith(b"\x81\x02hi"):
            data = connection.recv(4096)
            assert data, received
            received += data
    assert received.startswith(b"HTTP/1.1 101 ")


def test_pings_are_answered_in_order(open_websocket: Opener) -> None:
    ws = open_websocket("/echo")
    ws.ping(b"one")
    ws.ping(b"two")
    ws.send("after")
    assert ws.receive() == "after"
    assert ws.pongs == [b"one", b"two"]


def test_the_close_code_is_answered(open_websocket: Opener) -> None:
    closed = open_websocket("/echo").close(3001, "bye")
    assert (closed.code, closed.reason) == (3001, "bye")


def test_the_application_closes_with_a_code(open_websocket: Opener) -> None:
    ws = open_websocket("/closes")
    ws.send("go")
    closed = ws.wait_for_close()
    assert (closed.code, closed.reason) == (4001, "enough")


def test_another_greenlet_closes(open_websocket: Opener, server: GunicornProcess) -> None:
    ws = open_websocket("/outlives")
    closed = ws.wait_for_close()
    assert (closed.code, closed.reason) == (1000, "from beside")
    wait_until(lambda: get(server, "/reports?outlives") == "None", "receive() returned None")


def test_a_greenlet_that_still_receives_is_told(
    open_websocket: Opener, server: GunicornProcess
) -> None:
    ws = open_websocket("/leaves_behind")
    assert ws.wait_for_close().code == 1000
    wait_until(lambda: get(server, "/reports?left") == "None", "receive() returned None")


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x81\x02hi", 1002),
        (b"\x81\x82\0\0\0\0\xc3\x28", 1007),
        (b"\x82\xff" + struct.pack(">Q", 1 << 40) + b"mask", 1009),
        (b"\x83\x80mask", 1002),
    ],
    ids=["unmasked", "bad text", "too big", "reserved"],
)
def test_a_broken_frame_is_answered_with_its_code(
    open_websocket: Opener, data: bytes, code: int
) -> None:
    ws = open_websocket("/echo")
    ws.send("before")
    ws.send_raw(data)
    assert ws.receive() == "before"
    assert ws.wait_for_close().code == code


def test_the_code_arrives_though_the_client_goes_on_sending(open_websocket: Opener) -> None:
    """Closing with unread data would reset the connection under the Close frame."""
    ws = open_websocket("/echo")
    ws.send_raw(b"\x82\xff" + struct.pack(">Q", 3 << 20) + b"mask" + b"x" * (3 << 20))
    assert ws.wait_for_close().code == 1009


def test_a_failing_application_closes_with_1011(
    open_websocket: Opener, server: GunicornProcess
) -> None:
    ws = open_websocket("/fails")
    ws.send("go")
    closed = ws.wait_for_close()
    assert (closed.code, closed.reason) == (1011, "internal error")
    wait_until(lambda: "on purpose" in server.output(), "the traceback is logged")


def test_an_application_that_fails_before_the_handshake_answers_500(
    open_websocket: Opener,
) -> None:
    with pytest.raises(HandshakeRefused) as refused:
        open_websocket("/fails_before")
    assert refused.value.status == 500


def test_no_room_is_answered_with_503(open_websocket: Opener) -> None:
    with pytest.raises(HandshakeRefused) as refused:
        open_websocket("/is_full")
    assert refused.value.status == 503
    assert refused.value.headers["Retry-After"] == "7"
    assert "too many WebSockets" in refused.value.body


@pytest.mark.parametrize(("path", "body"), [("/plain", "websocket"), ("/lazy_plain", "first-next")])
def test_an_application_that_ignores_the_websocket_answers_http(
    open_websocket: Opener, path: str, body: str
) -> None:
    with pytest.raises(HandshakeRefused) as refused:
        open_websocket(path)
    assert (refused.value.status, refused.value.body) == (200, body)


def test_an_ordinary_request_has_no_websocket(server: GunicornProcess) -> None:
    assert get(server, "/plain") == "no websocket"


def test_a_generator_may_use_the_websocket(open_websocket: Opener) -> None:
    ws = open_websocket("/generator")
    ws.send("hi")
    assert ws.receive() == "hi"
    assert ws.wait_for_close().code == 1000


def test_a_response_after_the_websocket_is_dropped(open_websocket: Opener) -> None:
    ws = open_websocket("/answers_late")
    assert ws.receive() == "one"
    assert ws.wait_for_close().code == 1000


def test_the_handshake_can_be_answered_explicitly(open_websocket: Opener) -> None:
    ws = open_websocket(
        "/accepts", subprotocols=["first", "other"], origin="http://partner.example"
    )
    assert ws.subprotocol == "other"
    assert ws.response_headers["Set-Cookie"] == "seen=1"
    assert ws.receive() == "first, other|other|13|/accepts|http://partner.example"


def test_the_servers_favourite_subprotocol(open_websocket: Opener) -> None:
    assert open_websocket("/echo", subprotocols=["first", "second"]).subprotocol == "second"
    assert open_websocket("/echo", subprotocols=["other"]).subprotocol is None


def test_another_sites_page_is_refused(open_websocket: Opener) -> None:
    with pytest.raises(HandshakeRefused) as refused:
        open_websocket("/echo", origin="http://evil.example")
    assert refused.value.status == 403
    assert "saw 'http://evil.example'" in refused.value.body
    assert "setting `origins`" in refused.value.body


def test_greenlets_may_send_at_the_same_time(open_websocket: Opener) -> None:
    ws = open_websocket("/many_senders")
    size = 300_000
    ws.send(f"10 {size}")
    messages = [ws.receive() for _ in range(10)]
    assert sorted(messages) == [bytes([number]) * size for number in range(10)]


def test_only_one_greenlet_may_receive(open_websocket: Opener) -> None:
    ws = open_websocket("/two_receivers")
    assert ws.receive() == "another greenlet is receiving from this WebSocket"


def test_a_client_that_takes_nothing_is_given_up_by_size(
    open_websocket: Opener, server: GunicornProcess
) -> None:
    ws = open_websocket("/floods")
    ws.send("go")
    wait_until(lambda: get(server, "/reports?flood"), "the server has given up")
    posted, received, closed = get(server, "/reports?flood").split()
    assert (received, closed) == ("None", "True")
    # The queue's bound, and what the system's own buffers hold.
    assert 1024 * 1024 <= int(posted) <= 32 * 1024 * 1024


def test_a_client_that_takes_nothing_is_given_up_by_time(
    open_websocket: Opener, server: GunicornProcess
) -> None:
    ws = open_websocket("/stalls")
    ws.send("go")
    wait_until(lambda: get(server, "/reports?stall"), "the server has given up")
    assert get(server, "/reports?stall") == "Socket is dead"


def test_a_client_that_vanishes_ends_its_handler(
    open_websocket: Opener, server: GunicornProcess
) -> None:
    ws = open_websocket("/resource/ws")
    assert ws.receive() == "welcome"
    linger = struct.pack("ii", 1, 0)
    ws.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)  # a reset, not an end
    ws.abort()
    wait_until(lambda: get(server, "/reports?chat") == "closed", "on_close was called")


# -- what is written for gevent-websocket


def test_gevent_websockets_resource_and_chat(open_websocket: Opener) -> None:
    one = open_websocket("/resource/ws", subprotocols=["chat"])
    two = open_websocket("/resource/ws", subprotocols=["other"])
    assert (one.subprotocol, two.subprotocol) == ("chat", None)
    assert one.receive() == two.receive() == "welcome"
    one.send("to all")
    assert one.receive() == two.receive() == "to all"


def test_gevent_websockets_resource_serves_http(server: GunicornProcess) -> None:
    assert get(server, "/resource/page") == "no websocket"


def test_python_engineios_own_server(open_websocket: Opener) -> None:
    ws = open_websocket("/engineio_server?EIO=4&transport=websocket")
    opened = ws.receive()
    assert isinstance(opened, str)
    assert opened.startswith("0")
    ws.send("4hello")
    assert ws.receive() == "4hello"


def test_the_server_goes_on_after_all_this(open_websocket: Opener, server: GunicornProcess) -> None:
    assert open_websocket("/echo").close().code == 1000
    output = server.output()
    assert "ConcurrentObjectUseError" not in output
    assert "Socket error processing request" not in output


# -- the test client itself


def test_the_client_tells_a_lost_connection_from_a_closed_one(open_websocket: Opener) -> None:
    ws = open_websocket("/echo")
    ws.socket.shutdown(socket.SHUT_RDWR)
    with pytest.raises(Closed) as closed:
        ws.receive()
    assert closed.value.code == 1006


def test_the_client_waits_no_longer_than_it_is_told(open_websocket: Opener) -> None:
    with pytest.raises(TimeoutError, match="in time"):
        open_websocket("/echo").receive(timeout=0.05)
