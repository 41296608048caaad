"""Serving a connection's requests, one after the other, in a pooled greenlet.

What happens to a request, in gunicorn's order: hooks, environ, the application,
the response, the access log. The common request gets there by `head`, every
other by gunicorn's parser and `create`; from there both go the same way.
"""

import contextlib
import io
import socket
import time
from functools import partial
from typing import Any

from gevent import GreenletExit
from gunicorn.config import PostRequest, PreRequest
from gunicorn.http.body import Body, ChunkedReader, LengthReader
from gunicorn.http.errors import NoMoreData
from gunicorn.http.wsgi import FileWrapper, create, proxy_environ
from gunicorn.util import write_error

from nti.appserver.http import stock
from nti.appserver.http.access import access_log
from nti.appserver.http.connection import END, RECEIVE_SIZE, Connection
from nti.appserver.http.handle import ClientConnection, ClientSocket
from nti.appserver.http.handover import Handover
from nti.appserver.http.request import Request
from nti.appserver.http.response import Response

Environ = dict[str, Any]

#: Requests after which a worker past max_requests asks again whether it may end.
ASK_AGAIN = 20

#: A request's body that the application has left is read up to this, for the sake of the next
#: request; of one that is longer the connection ends.
UNREAD_SIZE = 1024 * 1024

REFUSAL = (
    b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 1\r\n"
    b"Content-Type: text/plain\r\nContent-Length: 22\r\n\r\nThe server is too busy"
)


def _nothing() -> bytes:
    return b""


class Serving:
    """How this worker serves a request; one object for all of them.

    :param server: the `HTTPServer`.
    """

    def __init__(self, server: Any) -> None:
        worker = server.worker
        self.server = server
        self.worker = worker
        self.application = worker.wsgi
        self.cfg = worker.cfg
        self.log = worker.log
        self.keepalive = worker.cfg.keepalive
        self.write_log = access_log(worker.log, worker.cfg)
        # The default hooks only write a debug line: nothing is lost by not calling them.
        default = worker.cfg.pre_request is PreRequest.default and not self._debugging()
        self.pre_request = None if default else worker.cfg.pre_request
        default = worker.cfg.post_request is PostRequest.default
        self.post_request = None if default else worker.cfg.post_request

    def _debugging(self) -> bool:
        return bool(self.log.error_log.isEnabledFor(10))

    def keeps(self) -> bool:
        """Whether connections are kept for another request."""
        return bool(self.worker.alive and self.keepalive)

    # -- a connection

    def serve(self, conn: Connection, data: bytes) -> None:
        """Serve the request that `data` begins, and those that have come behind it."""
        self._serve(conn, data, self.server.handover)

    def serve_adopted(self, conn: Connection, data: bytes) -> None:
        """As `serve`, a connection that another worker has given: the first request stays here."""
        self._serve(conn, data, None)

    def _serve(self, conn: Connection, data: bytes, handover: Handover | None) -> None:
        server = self.server
        try:
            rest: bytes | None = data
            while rest is not None:
                if handover is not None and handover.mark in rest and handover.gives(conn, rest):
                    break
                handover = server.handover
                rest = self._request(conn, rest)
                if rest is None:
                    break
                if conn.pending():
                    rest += conn.receive_now(RECEIVE_SIZE)
                if not rest:
                    conn.park(b"", server.keep_seconds)
                    break
                if rest.find(END) <= 0 and not conn.listener.judge(conn, rest, rest):
                    conn.park(rest, server.settings.head_timeout)
                    break
        except GreenletExit:
            conn.close()
        except OSError as problem:
            # The peer is gone, or silent for too long: there is nobody to answer.
            self.log.debug("Connection lost: %s", problem)
            conn.close()
        except BaseException:
            conn.close()
            raise
        finally:
            server.busy -= 1

    def refuse(self, conn: Connection, data: bytes) -> None:
        """Every slot is taken: say so at once."""
        server = self.server
        try:
            conn.sock.send(REFUSAL)
            conn.linger()
        except OSError:
            conn.close()
        finally:
            server.busy -= 1

    def stock(self, conn: Connection, data: bytes) -> None:
        """Leave the connection to gunicorn's own code, to its end (HTTP/2)."""
        try:
            conn.unwatch()
            self.worker.handle(conn.listener.sock, conn.gevent_socket(), conn.peer)
        finally:
            self.server.busy -= 1
            conn.close()

    def _request(self, conn: Connection, data: bytes) -> bytes | None:
        """Serve one request; the bytes behind it, or None when the connection has ended."""
        listener = conn.listener
        end = data.find(END)
        if end > 0 and (conn.seen or listener.fast_first) and listener.fast:
            trusted = listener.trusts(conn.peer)
            environ = listener.environ(conn)
            request = listener.heads[trusted].parse(data[:end], environ)
            if request is not None:
                conn.seen = True
                return self._fast(conn, request, environ, data[end + 4 :], trusted)
        return self._stock(conn, data)

    def _fast(
        self, conn: Connection, req: Request, environ: Environ, rest: bytes, trusted: bool
    ) -> bytes | None:
        reader, listener = None, conn.listener
        length = environ.get("CONTENT_LENGTH")
        if length is None:
            req.body = io.BytesIO()
        else:
            size = int(length)
            if len(rest) < size <= RECEIVE_SIZE:
                rest += conn.receive_now(size - len(rest))
            if len(rest) >= size:
                req.body = io.BytesIO(rest[:size])
                rest = rest[size:]
            else:
                reader = stock.ConnectionUnreader(conn, rest)
                req.body = Body(LengthReader(reader, size))
        req.peer_addr = conn.peer
        sock = ClientSocket(conn)
        resp = Response(req, sock, self.cfg, self.keeps)
        handle = ClientConnection(
            conn,
            trusted,
            reader.take_buffered if reader else partial(bytes, rest) if rest else _nothing,
        )
        environ["wsgi.input"] = req.body
        environ["wsgi.early_hints"] = resp.early_hints
        environ["gunicorn.socket"] = sock
        environ["nti.appserver.connection"] = handle
        if conn.proxy:
            req.proxy_protocol_info = conn.proxy
            environ.update(proxy_environ(req))
        elif trusted:
            listener.source.apply(environ)
        if listener.unix:
            listener.name_server(environ)
        if not self._answer(conn, req, environ, resp, handle):
            return None
        if reader is None:
            return rest
        return self._behind(conn, req.body, reader)

    def _behind(self, conn: Connection, body: Any, reader: Any) -> bytes | None:
        """Read past what the application left of a body; the bytes behind it."""
        if reader.broken_off and type(body.reader) is ChunkedReader:
            # Its parser has ended with that: where the next request begins is unknown.
            body.failed = True
        try:
            left = UNREAD_SIZE
            while not body.failed and left > 0:
                piece = body.read(RECEIVE_SIZE)
                if not piece:
                    return bytes(reader.take_buffered())
                left -= len(piece)
        except Exception as problem:
            self.log.debug("The body was not read to its end: %s", problem)
        conn.linger()
        return None

    def _stock(self, conn: Connection, data: bytes) -> bytes | None:
        """A request that gunicorn's parser judges."""
        listener = conn.listener
        sock = ClientSocket(conn)
        parser = stock.parser(listener.pinned, conn, sock, data)
        req = None
        try:
            req = next(parser)
            conn.seen = True
            parser.unreader.head_came()
            if req.proxy_protocol_info:
                conn.proxy = stock.endpoints(req.proxy_protocol_info, conn)
            req.proxy_protocol_info = conn.proxy or {}
            trusted = listener.trusts(conn.peer)
            handle = ClientConnection(conn, trusted, parser.unreader.take_buffered)
            if not self._answer(conn, req, None, None, handle, sock):
                return None
        except (NoMoreData, StopIteration) as problem:
            self.log.debug("Ignored premature client disconnection. %s", problem)
            conn.close()
            return None
        except OSError:
            raise
        except Exception as problem:
            self._fail(conn, req, problem)
            return None
        if req.should_close():
            conn.linger()
            return None
        return self._behind(conn, req.body, parser.unreader)

    def _fail(self, conn: Connection, req: Any, problem: BaseException) -> None:
        """Answer what went wrong before a response had begun, as gunicorn does; close."""
        try:
            raise problem  # gunicorn logs the exception that is being handled
        except BaseException:
            self.worker.handle_error(req, ClientSocket(conn), conn.peer, problem)
        if conn.waiter is None:
            conn.linger()

    # -- a request

    def _answer(
        self,
        conn: Connection,
        req: Any,
        environ: Environ | None,
        resp: Any,
        handle: ClientConnection,
        sock: ClientSocket | None = None,
    ) -> bool:
        """Run the application and send its response; False: the connection has ended.

        :param environ: None: gunicorn makes it, and the response.
        """
        worker, started = self.worker, time.time()
        problem: BaseException | None = None
        try:
            if self.pre_request is not None:
                self.pre_request(worker, req)
            if environ is None:
                resp, environ = self._create(conn, req, handle, sock)
            self._count()
            answer = self.application(environ, resp.start_response)
            if handle.taken:
                self._end_taken(req, environ, resp, answer, handle, started)
                conn.close()
                return False
            if worker.is_already_handled(answer):
                return True
            try:
                if type(answer) is FileWrapper:
                    resp.write_file(answer)
                else:
                    resp.finish(answer)
            finally:
                if self.write_log is not None:
                    self.write_log(resp, req, environ, time.time() - started)
                if hasattr(answer, "close"):
                    answer.close()
            if not resp.should_close():
                return True
            if type(req.body) is io.BytesIO and req.should_close():
                conn.close()
            else:
                conn.linger()  # some of the body, or a next request, may not have been read
        except BaseException as raised:  # gevent.Timeout is no Exception
            problem = raised
        finally:
            handle.end()
            if self.post_request is not None:
                self._after(req, environ or {}, resp)
        if problem is not None:
            self._failed(conn, req, resp, handle, problem)
        return False

    def _failed(
        self,
        conn: Connection,
        req: Any,
        resp: Any,
        handle: ClientConnection,
        problem: BaseException,
    ) -> None:
        """What was raised is the peer's end, the worker's, or the application's fault."""
        ended = conn.broken or isinstance(problem, NoMoreData | GreenletExit)
        if ended or (handle.taken and isinstance(problem, OSError)):
            self._lost(conn, req, resp, problem)
        elif handle.taken or (resp is not None and resp.headers_sent):
            # The response has begun: another would be read as a part of it.
            self.log.error("Error handling request", exc_info=problem)
            conn.close()
        else:
            self._fail(conn, req, problem)

    def _create(
        self, conn: Connection, req: Any, handle: ClientConnection, sock: Any
    ) -> tuple[Any, Environ]:
        """Response and environ as gunicorn makes them, and what we add."""
        listener = conn.listener
        resp, environ = create(
            req, sock, conn.peer, listener.name, self.cfg, Response, (self.keeps,)
        )
        environ["wsgi.multithread"] = True
        environ["wsgi.errors"] = listener.errors
        environ["nti.appserver.connection"] = handle
        if handle.trusted and not conn.proxy:
            listener.source.apply(environ)
            if listener.unix:
                listener.name_server(environ)  # the scheme may be another
        return resp, environ

    def _count(self) -> None:
        worker = self.worker
        worker.nr += 1
        if worker.nr >= worker.max_requests and worker.alive:
            if not self.server.hooks.may_leave():
                worker.max_requests += ASK_AGAIN
                return
            self.log.info("Autorestarting worker after current request.")
            worker.alive = False
            self.server.wake()

    def _end_taken(
        self, req: Any, environ: Environ, resp: Any, answer: Any, handle: Any, started: float
    ) -> None:
        """The application is done with a connection that it had taken over."""
        if hasattr(answer, "close"):
            answer.close()
        resp.status = f"{handle.status} Switching Protocols"
        resp.sent = handle.sent
        if self.write_log is not None:
            self.write_log(resp, req, environ, time.time() - started)

    def _lost(self, conn: Connection, req: Any, resp: Any, problem: BaseException) -> None:
        """The peer is gone or silent, or the worker's patience is at its end."""
        if isinstance(problem, TimeoutError) and resp is not None and not resp.headers_sent:
            mesg = "The request was not sent in time"
            with contextlib.suppress(OSError):
                write_error(ClientSocket(conn), 408, "Request Timeout", mesg)
                conn.linger()
                return
        self.log.debug("Connection lost: %r", problem)
        with contextlib.suppress(OSError):
            conn.sock.shutdown(socket.SHUT_RDWR)
        conn.close()

    def _after(self, req: Any, environ: Environ, resp: Any) -> None:
        assert self.post_request is not None
        try:
            self.post_request(self.worker, req, environ, resp)
        except Exception:
            self.log.exception("Exception in post_request hook")
