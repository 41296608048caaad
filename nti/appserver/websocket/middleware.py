"""WSGI middleware that gives requests for a WebSocket `environ["wsgi.websocket"]`.

Runs in the greenlet of the request, which becomes the WebSocket's own. What is
not such a request passes untouched.
"""

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from nti.appserver.errors import ClientError, HTTPFault
from nti.appserver.origins import check_origin
from nti.appserver.settings import Settings, load_settings
from nti.appserver.websocket.connection import Options, WebSocket, WebSocketError
from nti.appserver.websocket.frames import SERVER_ERROR
from nti.appserver.websocket.handler import Handler, Server
from nti.appserver.websocket.handshake import VERSION, is_upgrade, parse_handshake
from nti.appserver.websocket.takeover import Connection

logger = logging.getLogger("nti.appserver.websocket")

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
Application = Callable[[Environ, StartResponse], Iterable[bytes]]

#: In every environ that could become a WebSocket's: Engine.IO then offers the upgrade.
AVAILABLE_KEY = "nti.appserver.websocket"


class WebSocketMiddleware:
    """Serves WebSockets to an application written for gevent-websocket, or for this package.

    :param app: any WSGI application.
    :param settings: those of the environment when not given.
    :param subprotocols: those that the application speaks, its favourite
        first; besides, an application with gevent-websocket's
        `app_protocol(path)` is asked.
    """

    def __init__(
        self,
        app: Application,
        settings: Settings | None = None,
        *,
        subprotocols: Sequence[str] = (),
    ) -> None:
        settings = settings if settings is not None else load_settings(environ=os.environ)
        self.app = app
        self.origins = settings.origins
        self.options = Options(
            message_size=settings.websocket_message_size,
            queue_size=settings.websocket_queue_size,
            send_timeout=settings.send_timeout,
            deflate=settings.websocket_deflate,
            subprotocols=tuple(subprotocols),
        )
        self.server = Server(app)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        if "HTTP_UPGRADE" not in environ or not is_upgrade(environ) or "wsgi.websocket" in environ:
            environ[AVAILABLE_KEY] = True
            return self.app(environ, start_response)
        connection = Connection(environ)
        if not connection:
            return self.app(environ, start_response)
        try:
            handshake = parse_handshake(environ)
            check_origin(environ, self.origins)
        except ClientError as fault:
            logger.warning("%s: %s", environ.get("PATH_INFO", ""), fault.detail)
            return _answer(fault, start_response)
        ws = WebSocket(environ, handshake, connection, self._options(environ))
        environ[AVAILABLE_KEY] = True
        environ["wsgi.websocket"] = ws
        environ["wsgi.websocket_version"] = VERSION
        return self._serve(ws, connection, start_response)

    def _options(self, environ: Environ) -> Options:
        ask = getattr(self.app, "app_protocol", None)
        if ask is None:
            return self.options
        known = (ask(environ.get("PATH_INFO", "")), *self.options.subprotocols)
        return Options(
            self.options.message_size,
            self.options.queue_size,
            self.options.send_timeout,
            self.options.deflate,
            tuple(name for name in known if name),
        )

    def _serve(
        self, ws: WebSocket, connection: Connection, start_response: StartResponse
    ) -> Iterable[bytes]:
        """Run the application with its WebSocket, to the end of both."""
        handler = ws.handler = Handler(self.server, ws)
        handler.enter()
        try:
            answer = self._run(ws, start_response)
        finally:
            handler.leave()
            if ws.accepted:
                ws.finish()
        if answer is not None:
            return answer
        if ws.refusal is not None:
            return _answer(ws.refusal, start_response)
        return connection.given_back(ws.bytes_sent)

    def _run(self, ws: WebSocket, start_response: StartResponse) -> Iterable[bytes] | None:
        """The application's HTTP response; None when it made a WebSocket of the request."""
        responder = _Responder(ws, start_response)
        try:
            result = self.app(ws.environ, responder)
            if not ws.accepted and ws.refusal is None and not responder.called:
                result = _first_step(result)
            if not ws.accepted and ws.refusal is None:
                return result
            _exhaust(result)
        except WebSocketError as problem:
            # The peer has gone, or the server is full: neither is the application's fault.
            logger.debug("%s: %s", ws.path, problem)
            if not ws.accepted and ws.refusal is None:
                raise
        except Exception:
            if not ws.accepted and ws.refusal is None:
                raise
            logger.exception("%s: the WebSocket's application failed", ws.path)
            if ws.accepted:
                ws.close(SERVER_ERROR, "internal error")
        return None


class _Responder:
    """`start_response` as long as the request is none of a WebSocket."""

    def __init__(self, ws: WebSocket, start_response: StartResponse) -> None:
        self._ws = ws
        self._start_response = start_response
        self.called = False

    def __call__(self, status: str, headers: Any, exc_info: Any = None) -> Any:
        if self._ws.accepted or self._ws.refusal is not None:
            return lambda data: None  # what follows a WebSocket is not sent
        self.called = True
        self._ws.decline()
        if exc_info is None:
            return self._start_response(status, headers)
        return self._start_response(status, headers, exc_info)


def _first_step(result: Iterable[bytes]) -> Iterable[bytes]:
    """`result` with its first item made: a generator only starts to run with it."""
    iterator = iter(result)
    try:
        first = next(iterator)
    except StopIteration:
        first = None
    return _Stepped(first, iterator, getattr(result, "close", None))


class _Stepped:
    """An iterable whose first item has been taken from it and is given all the same."""

    def __init__(
        self, first: bytes | None, rest: Iterator[bytes], close: Callable[[], None] | None
    ) -> None:
        self._first = first
        self._rest = rest
        if close is not None:
            self.close = close

    def __iter__(self) -> Iterator[bytes]:
        if self._first is not None:
            yield self._first
        yield from self._rest


def _exhaust(result: Iterable[bytes]) -> None:
    """Run a WebSocket's application to its end, where it is a generator."""
    try:
        for _ in result:
            pass
    finally:
        close = getattr(result, "close", None)
        if close is not None:
            close()


def _answer(fault: HTTPFault, start_response: StartResponse) -> Iterable[bytes]:
    body = f"{fault.detail or fault.title}\n".encode()
    headers = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))]
    start_response(fault.status_line, [*headers, *fault.headers])
    return [body]
