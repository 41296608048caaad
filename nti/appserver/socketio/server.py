"""python-socketio's server on this package's Engine.IO: namespaces, rooms, acknowledgements.

Where python-socketio differs from the Socket.IO protocol (revision 5), or runs
one client's events beside each other without a bound, this class does it
anew: a client's connects, events and disconnects are handled in order, one at
a time, while acknowledgements are taken at once, so that a handler may `call`
its client and wait.

Runs in greenlets of the worker.
"""

import logging
from typing import Any

import gevent
import socketio
from socketio import packet as sio
from socketio.exceptions import ConnectionRefusedError as Refusal

from nti.appserver.settings import Settings
from nti.appserver.socketio.arguments import fitting
from nti.appserver.socketio.engine import Engine
from nti.appserver.socketio.manager import manager_for
from nti.appserver.socketio.packets import Packet, PacketError

logger = logging.getLogger("nti.appserver.socketio")

#: Event names that the protocol keeps for itself; from a client they are an attack.
RESERVED = frozenset(("connect", "connect_error", "disconnect", "disconnecting"))

#: Binary attachments of one event.
MAX_ATTACHMENTS = 64

#: What no later request or event may use of the environ that opened a session.
_OF_THE_REQUEST = frozenset(
    (
        "wsgi.input",
        "wsgi.errors",
        "wsgi.file_wrapper",
        "wsgi.websocket",
        "wsgi.early_hints",
        "gunicorn.socket",
        "nti.appserver.connection",
    )
)


class _Detail(logging.LoggerAdapter[logging.Logger]):
    """python-socketio's logger: a line for each emit is detail, not information."""

    def info(self, msg: object, *args: object, **kwargs: Any) -> None:
        self.debug(msg, *args, **kwargs)


class Server(socketio.Server):  # type: ignore[misc]
    """Socket.IO for one worker.

    :param settings: pings, sizes and timeouts.
    """

    eio: Engine

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        super().__init__(
            async_mode="gevent", logger=_Detail(logger), client_manager=manager_for(settings)
        )

    def _engineio_server_class(self) -> Any:
        settings = self._settings
        return lambda **options: Engine(settings)

    # -- from Engine.IO

    def _handle_eio_connect(self, eio_sid: str, environ: dict[str, Any]) -> None:
        super()._handle_eio_connect(
            eio_sid, {key: environ[key] for key in environ.keys() - _OF_THE_REQUEST}
        )

    def _handle_eio_message(self, eio_sid: str, data: str | bytes) -> None:
        """Take a message; never switches.

        :raises PacketError: it is not one that a client may send.
        """
        waiting = self._binary_packet.get(eio_sid)
        if waiting is not None:
            if not isinstance(data, bytes):
                raise PacketError("text where a binary attachment was due")
            if not waiting.add_attachment(data):
                return
            del self._binary_packet[eio_sid]
            packet = waiting
        else:
            packet = self._decode(data)
            if packet.attachment_count:
                self._binary_packet[eio_sid] = packet
                return
        self._dispatch(eio_sid, packet)

    def _decode(self, data: str | bytes) -> Any:
        if isinstance(data, bytes):
            raise PacketError("binary data that belongs to no event")
        try:
            packet = self.packet_class(encoded_packet=data)
        except (ValueError, IndexError, KeyError, RecursionError) as problem:
            raise PacketError(f"not a Socket.IO packet: {problem}") from None
        kind = packet.packet_type
        if not isinstance(kind, int) or not data or kind == sio.CONNECT_ERROR:
            raise PacketError(f"Socket.IO packet type {kind!r} from a client")
        if packet.attachment_count > MAX_ATTACHMENTS:
            raise PacketError(f"more than {MAX_ATTACHMENTS} binary attachments")
        if kind in (sio.EVENT, sio.BINARY_EVENT):
            _check_event(packet.data)
        elif kind in (sio.ACK, sio.BINARY_ACK):
            if packet.id is None or not isinstance(packet.data, list):
                raise PacketError("an acknowledgement without a number or a list")
        elif kind == sio.CONNECT:
            if packet.data is not None and not isinstance(packet.data, dict):
                raise PacketError("a connect with something else than an object")
        elif kind > sio.BINARY_ACK:
            raise PacketError(f"Socket.IO packet type {kind} is unknown")
        return packet

    def _dispatch(self, eio_sid: str, packet: Any) -> None:
        session = self.eio.sessions[eio_sid]
        kind, namespace = packet.packet_type, packet.namespace or "/"
        if kind in (sio.EVENT, sio.BINARY_EVENT):
            if session.retiring:
                return  # it could not be acknowledged any more
            session.enqueue(self._handle_event, eio_sid, namespace, packet.id, packet.data)
        elif kind in (sio.ACK, sio.BINARY_ACK):
            # Not enqueued: the handler under way may wait for just this.
            gevent.spawn(self._handle_ack, eio_sid, namespace, packet.id, packet.data)
        elif kind == sio.CONNECT:
            session.enqueue(self._handle_connect, eio_sid, namespace, packet.data)
        else:
            session.enqueue(self._handle_disconnect, eio_sid, namespace)

    def _handle_event(self, eio_sid: str, namespace: str, id: int | None, data: Any) -> None:
        """Run the handler of an event to its end, in the session's turn; then acknowledge it."""
        sid = self.manager.sid_from_eio_sid(eio_sid, namespace)
        if self.manager.is_connected(sid, namespace):
            self._handle_event_internal(self, sid, eio_sid, data, namespace, id)

    def _handle_eio_disconnect(self, eio_sid: str, reason: str) -> None:
        self._binary_packet.pop(eio_sid, None)
        super()._handle_eio_disconnect(eio_sid, reason)

    # -- namespaces

    def _handle_connect(self, eio_sid: str, namespace: str, data: Any) -> None:
        """Let a client into a namespace, or tell it why not.

        What the connect handler emits to it is kept back until it has been told.
        """
        session = self.eio.sessions.get(eio_sid)
        if session is None:
            return
        if namespace not in self.namespace_handlers and namespace not in self.handlers:
            self._refuse(eio_sid, namespace, {"message": "Invalid namespace"})
            return
        sid = self.manager.pre_connect(eio_sid, namespace)
        if sid is None:
            self._refuse(eio_sid, namespace, {"message": "Already connected"})
            return
        session.hold()
        try:
            refusal = self._ask(namespace, sid, self.environ[eio_sid], data)
        except BaseException:
            self.manager.disconnect(sid, namespace, ignore_queue=True)
            raise
        finally:
            held = session.take_held()
        if refusal is None:
            self.manager.connect(sid, namespace)
            session.connect_deadline = None
            self._send_packet(
                eio_sid, self.packet_class(sio.CONNECT, {"sid": sid}, namespace=namespace)
            )
        else:
            self.manager.disconnect(sid, namespace, ignore_queue=True)
            self._refuse(eio_sid, namespace, refusal)
            held = [packet for packet in held if not _is_for(packet, namespace)]
        for packet in held:
            session.send(packet)

    def _ask(self, namespace: str, sid: str, environ: dict[str, Any], data: Any) -> Any:
        """What the connect handler answers: None to let the client in, else the error to send."""
        try:
            handler = getattr(self.namespace_handlers.get(namespace), "on_connect", None)
            args = (sid, environ, data)
            if handler is not None:
                args = fitting(handler, args)
            if self._trigger_event("connect", namespace, *args) is False:
                return Refusal().error_args
        except Refusal as refusal:
            return refusal.error_args
        except Exception:
            logger.exception("namespace %s: the connect handler failed", namespace)
            return {"message": "Internal server error"}
        return None

    def _refuse(self, eio_sid: str, namespace: str, error: Any) -> None:
        packet = self.packet_class(sio.CONNECT_ERROR, data=error, namespace=namespace)
        self._send_packet(eio_sid, packet)


def _check_event(data: Any) -> None:
    """Refuse an event that is none, or that would pass for one of the protocol's own."""
    if not isinstance(data, list) or not data or not isinstance(data[0], str):
        raise PacketError("an event without a name")
    if data[0] in RESERVED:
        raise PacketError(f"the event name {data[0]!r} is reserved")


def _is_for(packet: Packet, namespace: str) -> bool:
    """Whether a packet that was kept back belongs to `namespace`; attachments pass for theirs."""
    if packet.binary or not isinstance(packet.data, str):
        return True
    text = packet.data.lstrip("0123456789-")
    if namespace == "/":
        return not text.startswith("/")
    return text.startswith(f"{namespace},") or text == namespace
