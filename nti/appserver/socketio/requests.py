"""Engine.IO's HTTP side: opening, polls, posts and upgrades (revision 4 of the protocol).

`Requests` is a WSGI application for the path /socket.io/. A poll and a
WebSocket keep the greenlet of their request; nothing else is held while they
wait.
"""

import contextlib
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

from nti.appserver.errors import ClientError, Header
from nti.appserver.origins import ANY, check_origin, own_origin
from nti.appserver.socketio.engine import UPGRADE_SECONDS, Engine
from nti.appserver.socketio.packets import (
    CLOSE,
    PING,
    PONG,
    UPGRADE,
    Packet,
    PacketError,
    decode,
    decode_payload,
    encode_payload,
    websocket_frame,
)
from nti.appserver.socketio.session import Session

logger = logging.getLogger("nti.appserver.socketio")

Environ = dict[str, Any]
StartResponse = Callable[..., Any]

#: Engine.IO's numbers for what is wrong with a request.
UNKNOWN_TRANSPORT, UNKNOWN_SID, BAD_METHOD, BAD_REQUEST, FORBIDDEN, UNSUPPORTED = range(6)

PROTOCOL = "4"
MAX_FIELDS = 32


class Refused(Exception):
    """The request cannot be served.

    :param code: Engine.IO's number for why.
    :param message: the same in words, for the client.
    """

    def __init__(self, code: int, message: str, status: str = "400 Bad Request") -> None:
        self.code = code
        self.message = message
        self.status = status
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Query:
    """The query string: which transport, which session (None: a new one), which protocol."""

    transport: str
    sid: str | None
    protocol: str | None

    @classmethod
    def of(cls, environ: Mapping[str, Any]) -> "Query":
        """The query of a request.

        :raises Refused: it is not a valid one.
        """
        try:
            fields = parse_qs(environ.get("QUERY_STRING", ""), max_num_fields=MAX_FIELDS)
        except ValueError:
            raise Refused(BAD_REQUEST, f"more than {MAX_FIELDS} query fields") from None
        transport = fields.get("transport", [""])[0]
        if transport not in ("polling", "websocket"):
            raise Refused(UNKNOWN_TRANSPORT, "Transport unknown")
        return cls(transport, fields.get("sid", [None])[0], fields.get("EIO", [None])[0])


class Requests:
    """The WSGI application.

    :param engine: the worker's sessions.
    :param origins: the setting `origins`.
    """

    def __init__(self, engine: Engine, origins: Sequence[str]) -> None:
        self.engine = engine
        self.origins = origins

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        headers: list[Header] = []
        try:
            headers = self._cors(environ)
            return self._serve(environ, start_response, headers)
        except Refused as refused:
            logger.info("%s: %s", refused.status, refused.message)
            body = json.dumps({"code": refused.code, "message": refused.message}).encode()
            return _answer(start_response, refused.status, body, headers, "application/json")

    def _serve(
        self, environ: Environ, start_response: StartResponse, headers: list[Header]
    ) -> Iterable[bytes]:
        method = environ["REQUEST_METHOD"]
        if method == "OPTIONS":
            headers = [*headers, ("Access-Control-Allow-Methods", "GET, POST, OPTIONS")]
            if asked := environ.get("HTTP_ACCESS_CONTROL_REQUEST_HEADERS"):
                headers.append(("Access-Control-Allow-Headers", asked))
            return _answer(start_response, "204 No Content", b"", headers, "")
        query = Query.of(environ)
        session = self._session(query)
        if query.transport == "websocket":
            return self._websocket(environ, session)
        if method == "GET":
            text = self._open(environ) if session is None else self._poll(environ, session)
        elif method == "POST" and session is not None:
            text = self._post(environ, session)
        else:
            raise Refused(BAD_METHOD, "Bad handshake method")
        return _answer(start_response, "200 OK", text.encode(), headers)

    def _session(self, query: Query) -> Session | None:
        """The session that the request names; None when it opens one."""
        if query.sid is None:
            if query.protocol != PROTOCOL:
                raise Refused(UNSUPPORTED, "Unsupported protocol version")
            return None
        session = self.engine.sessions.get(query.sid)
        if session is None:
            raise Refused(UNKNOWN_SID, "Session ID unknown")
        if session.ws is not None:
            raise Refused(BAD_REQUEST, "the session has been upgraded to a WebSocket")
        return session

    def _cors(self, environ: Environ) -> list[Header]:
        """The headers that let another origin's page read the answer.

        :raises Refused: the origin may not use this site.
        """
        try:
            check_origin(environ, self.origins)
        except ClientError as fault:
            logger.warning(fault.detail)
            raise Refused(FORBIDDEN, fault.detail, fault.status_line) from None
        origin = environ.get("HTTP_ORIGIN")
        if origin is None or origin.lower() == own_origin(environ):
            return []
        headers = [("Access-Control-Allow-Origin", origin), ("Vary", "Origin")]
        if ANY not in self.origins:
            headers.append(("Access-Control-Allow-Credentials", "true"))
        return headers

    # -- polling

    def _open(self, environ: Environ) -> str:
        if self.engine.draining:
            raise Refused(BAD_REQUEST, "the server is ending", "503 Service Unavailable")
        session = self.engine.open(environ)
        upgrades = bool(environ.get("nti.appserver.websocket"))
        return encode_payload([self.engine.handshake(session, upgrades=upgrades)])

    def _poll(self, environ: Environ, session: Session) -> str:
        with self._told_of_drain(environ):
            try:
                return encode_payload(session.poll())
            except PacketError as problem:
                raise Refused(BAD_REQUEST, str(problem)) from None

    @contextlib.contextmanager
    def _told_of_drain(self, environ: Environ) -> Iterator[None]:
        """Within it the sessions close when the worker begins to end."""
        connection = environ.get("nti.appserver.connection")
        cancel = connection.on_drain(self.engine.drain) if connection is not None else None
        try:
            yield
        finally:
            if cancel is not None:
                cancel()

    def _post(self, environ: Environ, session: Session) -> str:
        if session.posting:
            session.close(self.engine.reason.TRANSPORT_ERROR, last=CLOSE)
            raise Refused(BAD_REQUEST, "two posts at a time")
        session.posting = True
        try:
            for packet in decode_payload(self._body(environ)):
                session.receive(packet)
        except (PacketError, UnicodeDecodeError) as problem:
            session.close(self.engine.reason.TRANSPORT_ERROR, last=CLOSE)
            raise Refused(BAD_REQUEST, f"bad payload: {problem}") from None
        finally:
            session.posting = False
        return "ok"

    def _body(self, environ: Environ) -> str:
        limit = self.engine.max_payload
        if int(environ.get("CONTENT_LENGTH") or 0) <= limit:
            body: bytes = environ["wsgi.input"].read(limit + 1)
            if len(body) <= limit:
                return body.decode("utf-8")
        raise Refused(BAD_REQUEST, f"a payload may have {limit} bytes", "413 Content Too Large")

    # -- WebSocket

    def _websocket(self, environ: Environ, session: Session | None) -> Iterable[bytes]:
        ws = environ.get("wsgi.websocket")
        if ws is None or not hasattr(ws, "post"):
            raise Refused(BAD_REQUEST, "not a WebSocket request, or no WebSocketMiddleware")
        if session is not None:
            if session.upgrading or not self._upgrade(ws, session):
                ws.close()
                return ()
        elif self.engine.draining:
            raise Refused(BAD_REQUEST, "the server is ending", "503 Service Unavailable")
        else:
            ws.accept()
            session = self.engine.open(environ)
            session.ws = ws
            session.send(self.engine.handshake(session, upgrades=False))
        with self._told_of_drain(environ):
            ws.keep_at_drain()  # the session closes it, after its last acknowledgement
            self._read(ws, session)
        return ()

    def _upgrade(self, ws: Any, session: Session) -> bool:
        """Go from polling to the WebSocket; False when the client does not go through with it."""
        ws.accept()
        session.begin_upgrade()
        timeout = self.engine.start_timer(UPGRADE_SECONDS, ws.close)
        try:
            if ws.receive() != f"{PING}probe":
                return False
            ws.post(websocket_frame(Packet(PONG, "probe")))
            if ws.receive() != f"{UPGRADE}":
                return False
            session.end_upgrade(ws)
            return not session.closed
        finally:
            timeout.kill(block=False)
            session.upgrading = False

    def _read(self, ws: Any, session: Session) -> None:
        """Take what the client sends until it, or the session, ends."""
        try:
            while not session.closed:
                message = ws.receive()
                if message is None:
                    break
                session.receive(decode(message))
        except PacketError as problem:
            logger.info("session %s: %s", session, problem)
            session.close(self.engine.reason.TRANSPORT_ERROR)
        finally:
            session.close(self.engine.reason.TRANSPORT_CLOSE)


def _answer(
    start_response: StartResponse,
    status: str,
    body: bytes,
    headers: Iterable[Header],
    content_type: str = "text/plain; charset=UTF-8",
) -> Iterable[bytes]:
    given = [("Cache-Control", "no-store"), *headers]
    if content_type:
        given += [("Content-Type", content_type), ("Content-Length", str(len(body)))]
    start_response(status, given)
    return [body]
