"""What the functional tests serve: one application for each way of using a WebSocket.

Imported by the worker of the server under test, never by the tests.
"""

import gevent
from geventwebsocket import Resource, WebSocketApplication, WebSocketError

from nti.appserver.errors import ServiceUnavailable
from nti.appserver.websocket import WebSocketMiddleware
from tests.websocket.lending import Lender


def echo(environ, start_response):
    ws = environ["wsgi.websocket"]
    while (message := ws.receive()) is not None:
        ws.send(message)
    return []


def plain(environ, start_response):
    body = b"websocket" if environ.get("wsgi.websocket") else b"no websocket"
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def generator(environ, start_response):
    """The WebSocket is only used once somebody iterates."""
    ws = environ["wsgi.websocket"]
    ws.send(ws.receive())
    yield b"dropped"


def lazy_plain(environ, start_response):
    start_response("200 OK", [("Content-Length", "10")])
    yield b"first"
    yield b"-next"


def answers_late(environ, start_response):
    """Like a framework whose view uses the WebSocket and then returns a response."""
    ws = environ["wsgi.websocket"]
    ws.send("one")
    start_response("200 OK", [("Content-Length", "4")])
    return [b"gone"]


def fails(environ, start_response):
    environ["wsgi.websocket"].receive()
    raise RuntimeError("on purpose")


def fails_before(environ, start_response):
    raise RuntimeError("before the handshake")


def is_full(environ, start_response):
    class Full:
        def take_over(self):
            raise ServiceUnavailable("too many WebSockets", retry_after=7)

    environ["wsgi.websocket"]._connection._ours = Full()
    return echo(environ, start_response)


def closes(environ, start_response):
    ws = environ["wsgi.websocket"]
    ws.receive()
    ws.close(4001, "enough")
    try:
        ws.send("more")
    except WebSocketError:
        return []
    raise AssertionError("sent after close")


def accepts(environ, start_response):
    ws = environ["wsgi.websocket"]
    ws.accept(subprotocol=ws.subprotocols[-1], headers=[("Set-Cookie", "seen=1")])
    ws.send(f"{ws.protocol}|{ws.subprotocol}|{ws.version}|{ws.path}|{ws.origin}")
    ws.receive()
    return []


def many_senders(environ, start_response):
    """Greenlets that all send large messages at once."""
    ws = environ["wsgi.websocket"]
    count, size = map(int, ws.receive().split())
    senders = [gevent.spawn(ws.send, bytes([number]) * size) for number in range(count)]
    gevent.joinall(senders, raise_error=True)
    ws.receive()
    return []


def two_receivers(environ, start_response):
    ws = environ["wsgi.websocket"]
    ws.accept()
    first = gevent.spawn(ws.receive)
    gevent.sleep(0)
    try:
        ws.receive()
    except WebSocketError as problem:
        ws.send(str(problem))
    first.get()
    return []


def floods(environ, start_response):
    """Posts without waiting until the peer is given up; says how that went on another path."""
    ws = environ["wsgi.websocket"]
    frame = b"\x82\x7f" + (65536).to_bytes(8, "big") + b"x" * 65536
    ws.receive()
    posted = 0
    while ws.post(frame):
        posted += 1
    results["flood"] = f"{posted * 65536} {ws.receive()} {ws.closed}"
    return []


def stalls(environ, start_response):
    """Sends with waiting to a peer that takes nothing."""
    ws = environ["wsgi.websocket"]
    ws.receive()
    try:
        while True:
            ws.send(b"x" * 65536)
    except WebSocketError as problem:
        results["stall"] = str(problem)
    return []


results = {}


def reports(environ, start_response):
    body = results.get(environ["QUERY_STRING"], "").encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


def outlives(environ, start_response):
    """A greenlet closes the WebSocket that its handler waits on."""
    ws = environ["wsgi.websocket"]
    ws.accept()
    gevent.spawn(ws.close, 1000, "from beside")
    results["outlives"] = repr(ws.receive())
    return []


def leaves_behind(environ, start_response):
    """The handler ends while a greenlet of its own still receives."""
    ws = environ["wsgi.websocket"]
    ws.accept()

    def receive():
        results["left"] = repr(ws.receive())

    gevent.spawn(receive)
    gevent.sleep(0)
    return []


class Chat(WebSocketApplication):
    """gevent-websocket's own example, as it stands in its README."""

    def on_open(self):
        self.ws.send("welcome")

    def on_message(self, message):
        if message is None:
            return
        for client in self.ws.handler.server.clients.values():
            client.ws.send(message)

    def on_close(self, reason):
        results["chat"] = "closed"

    @classmethod
    def protocol_name(cls):
        return "chat"


resource = Resource([("^/resource/ws", Chat), ("^/resource/", plain)])

_engineio = None


def engineio_server(environ, start_response):
    """python-engineio's own server, which takes `wsgi.websocket` as gevent-websocket's."""
    global _engineio
    if _engineio is None:
        import engineio

        _engineio = engineio.Server(async_mode="gevent", cors_allowed_origins="*")
        _engineio.on("message", lambda sid, data: _engineio.send(sid, data))
    return _engineio.handle_request(environ, start_response)


PATHS = {
    function.__name__: function
    for function in (
        accepts,
        answers_late,
        closes,
        echo,
        engineio_server,
        fails,
        fails_before,
        floods,
        generator,
        is_full,
        lazy_plain,
        leaves_behind,
        many_senders,
        outlives,
        plain,
        reports,
        stalls,
        two_receivers,
    )
}


class Application:
    """Dispatches by the first path segment."""

    def __call__(self, environ, start_response):
        name = environ["PATH_INFO"].split("/")[1]
        if name == "resource":
            return resource(environ, start_response)
        return PATHS.get(name, plain)(environ, start_response)

    def app_protocol(self, path):
        return resource.app_protocol(path) if path.startswith("/resource") else ""


app = WebSocketMiddleware(Application(), subprotocols=["second", "first"])
echo_only = WebSocketMiddleware(echo)
lent = Lender(WebSocketMiddleware(echo))
