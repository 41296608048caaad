"""What `test_serving` has served: each path misbehaves in one way.

Imported by the worker of the server under test, after patching.
"""

from typing import Any

import transaction
from pyramid.config import Configurator
from pyramid.response import Response
from transaction.interfaces import TransientError

from nti.appserver.socketio import Namespace, emit
from nti.appserver.transactions import connection, run
from nti.appserver.transactions.instruments import LEASES

from .waiting import Waiting

#: Data managers that wait in the middle of a commit, by the name of what is written.
waiting: dict[str, Waiting] = {}

#: The attempts at each request, by the name of what it writes.
attempts: dict[str, int] = {}


def put(name: str, value: Any = 1) -> None:
    connection().root()[name] = value


class Failing(Waiting):
    """Fails when it votes."""

    def __init__(self, problem: Exception) -> None:
        super().__init__("")
        self.problem = problem

    def __getattr__(self, name: str) -> Any:
        if name == "tpc_vote":
            raise self.problem
        return super().__getattr__(name)


def write(request: Any) -> Response:
    """Write NAME; the commit waits in a phase, or it fails in the vote, the first `times`."""
    name = request.matchdict["name"]
    attempts[name] = attempts.get(name, 0) + 1
    put(name)
    emit("written", {"name": name}, namespace="/board")
    if "fails" in request.GET and attempts[name] <= int(request.GET.get("times", 1000)):
        problem = TransientError() if request.GET["fails"] == "conflict" else ValueError("told to")
        transaction.get().join(Failing(problem))
    elif "waits" in request.GET:
        waiting[name] = Waiting(request.GET["waits"], key="")
        transaction.get().join(waiting[name])
    return Response(b"written" * 1000)


def seen(request: Any) -> dict[str, Any]:
    """What is known of NAME, in the database and beside it; how many connections are leased."""
    name = request.matchdict["name"]
    leased = LEASES.value
    return {
        "stored": connection().root().get(name),
        "attempts": attempts.get(name, 0),
        "waits": name in waiting and waiting[name].reached.is_set(),
        "leased": leased,
    }


def go_on(request: Any) -> dict[str, Any]:
    """Let the commit of NAME go on."""
    waiting[request.matchdict["name"]].go_on.set()
    return {}


def stream(request: Any) -> Response:
    """Chunks that read from the database, the second one when NAME may go on."""
    name = request.matchdict["name"]
    waiting[name] = Waiting("")

    def chunks() -> Any:
        yield b"first"
        waiting[name].go_on.wait(20)
        yield str(connection().root().get(name)).encode()

    put(name, "of the stream")
    return Response(app_iter=chunks())


def echo(request: Any) -> Response:
    """A WebSocket, each of whose messages is written."""
    websocket = request.websocket
    while (message := websocket.receive()) is not None:
        run(put, message)
        websocket.send(message)
    return Response()


class Board(Namespace):
    """Each event is written."""

    def on_write(self, sid: str, name: str) -> str:
        put(name)
        return name


def main(global_config: Any, **settings: Any) -> Any:
    config = Configurator(settings=settings)
    config.include("nti.appserver")
    config.add_socketio_namespace(Board("/board"))
    for view, renderer in (
        (write, None),
        (seen, "json"),
        (go_on, "json"),
        (stream, None),
        (echo, None),
    ):
        config.add_route(view.__name__, f"/{view.__name__}/{{name}}")
        config.add_view(view, route_name=view.__name__, renderer=renderer)
    return config.make_wsgi_app()
