"""Answering: gunicorn's `Response`, with the head and the first bytes in one send.

Runs in the greenlet of the request; writing switches where the client does not
take the bytes at once. Which headers may be sent, when a body is left out, how
it is framed: gunicorn's rules, and where they are not short, gunicorn's code.
"""

import logging
import os
import time
from collections.abc import Callable, Iterable, Sequence
from email.utils import formatdate
from sys import getrefcount
from typing import Any

from gunicorn import SERVER
from gunicorn.http.wsgi import STATUS_RE, FileWrapper, _make_early_hints_callback
from gunicorn.http.wsgi import Response as StockResponse
from gunicorn.util import has_fileno

from nti.appserver.http.body_files import HELD_ONCE, LEAST
from nti.appserver.http.cork import Cork
from nti.appserver.http.handle import FileEnded
from nti.appserver.http.head import TABLE_SIZE

logger = logging.getLogger("nti.appserver.http")

Header = tuple[str, str]

#: A body up to this is sent with its head; a larger one would cost more to copy than to send.
JOIN_SIZE = 64 * 1024

#: Header fields that were found valid: the text to send, and the length that Content-Length says.
_plain: dict[Header, tuple[str, int | None]] = {}

#: Status lines that were found valid: the code, and whether they forbid a body.
_statuses: dict[str, tuple[int, bool]] = {}

#: Bounds what is kept: values that differ every time are longer than most.
_PLAIN_SIZE = 128

#: Fields that differ every time, or mean something to us.
_SELDOM_AGAIN = frozenset(("upgrade", "set-cookie", "etag"))


class _Clock:
    """The Date field, made once a second."""

    def __init__(self) -> None:
        self.second = 0
        self.text = ""

    def date(self) -> str:
        second = int(time.time())
        if second != self.second:
            self.second = second
            self.text = f"Date: {formatdate(second, usegmt=True)}\r\n"
        return self.text


_date = _Clock().date


class Response(StockResponse):  # type: ignore[misc]
    """One response.

    :param keeps: asked when the head is sent: whether the worker still keeps
        connections. It may have begun to drain since the request came.
    """

    version = SERVER

    def __init__(self, req: Any, sock: Any, cfg: Any, keeps: Callable[[], bool]) -> None:
        self.req = req
        self.sock = sock
        self.cfg = cfg
        self.status: str | None = None
        self.headers: list[Header] = []
        self.response_length: int | None = None
        self.chunked = self.must_close = self.headers_sent = self.upgrade = False
        self._omits_body = self._omits_body_warned = False
        self.sent = 0
        self._keeps = keeps
        self._head = ""
        self._cork: Cork | None = None

    def early_hints(self, headers: Iterable[Header]) -> None:
        """`wsgi.early_hints`: send a 103 response (RFC 8297)."""
        _make_early_hints_callback(self.req, self.sock, self)(headers)

    def start_response(self, status: str, headers: Any, exc_info: Any = None) -> Any:
        """PEP 3333's start_response.

        :raises ValueError, TypeError, InvalidHeader: what may not be sent.
        """
        if exc_info is not None or self.status is not None or status not in _statuses:
            self._head = ""
            return self._start_checked(status, headers, exc_info)
        self.status = status
        code, bodiless = _statuses[status]
        self.status_code = code
        head = ""
        for header in headers:
            try:
                text, length = _plain[header]
                if length is not None:
                    self.response_length = length
                head += text
                self.headers.append(header)
            except (KeyError, TypeError):
                head += self._header(header)
        if bodiless or self.req.method == "HEAD":
            return self._restart(status, headers)
        self._head = head
        if self.response_length is None:
            self.chunked = self.is_chunked()
        return self.write

    def _restart(self, status: str, headers: Any) -> Any:
        """A response without a body: gunicorn knows which fields it may keep."""
        self.status = self.response_length = None
        self.headers = []
        return super().start_response(status, headers)

    def _start_checked(self, status: str, headers: Any, exc_info: Any) -> Any:
        if exc_info is not None and not self.headers_sent:
            # PEP 3333: what was said before is replaced. gunicorn adds to it.
            self.headers = []
            self.response_length = None
            self.upgrade = False
        write = super().start_response(status, headers, exc_info)
        if STATUS_RE.fullmatch(status) and len(_statuses) < TABLE_SIZE:
            code = self.status_code
            _statuses[status] = (code, code in (204, 304) or code < 200)
        return write

    def _header(self, header: Any) -> str:
        """Check one field; the text to send, '' where it is not sent."""
        before = len(self.headers)
        self.process_headers((header,))
        if len(self.headers) == before:
            return ""
        name, value = self.headers[-1]
        text = f"{name}: {value}\r\n"
        lower = name.lower()
        if header == (name, value) and len(text) < _PLAIN_SIZE and lower not in _SELDOM_AGAIN:
            if len(_plain) >= TABLE_SIZE:
                _plain.clear()
            _plain[header] = text, self.response_length if lower == "content-length" else None
        return text

    def head(self) -> bytes:
        """The bytes of the head, made now: Date and Connection tell this moment."""
        if not self._keeps():
            self.must_close = True
        req = self.req
        connection = "close" if self.should_close() else "keep-alive"
        if self.upgrade:
            connection = "upgrade"
        fields = self._head or "".join([f"{name}: {value}\r\n" for name, value in self.headers])
        framing = "Transfer-Encoding: chunked\r\n" if self.chunked else ""
        major, minor = req.version
        return (
            f"HTTP/{major}.{minor} {self.status}\r\nServer: {self.version}\r\n{_date()}"
            f"Connection: {connection}\r\n{framing}{fields}\r\n"
        ).encode("latin-1")

    def send_headers(self) -> None:
        """Send the head on its own, unless it has been sent."""
        if not self.headers_sent:
            self.sock.sendall(self.head())
            self.headers_sent = True

    def _emit_body(self, data: bytes) -> None:
        """Put body bytes on the wire, behind the head if that has not left yet."""
        if self.chunked:
            data = b"%X\r\n%b\r\n" % (len(data), data)
        if not self.headers_sent:
            head = self.head()
            self.headers_sent = True
            if len(data) > JOIN_SIZE:
                self.sock.send_both(head, data)
                return
            data = head + data
        elif self._cork is not None:
            last = self.sent == self.response_length
            (self._cork.send_all if last else self._cork.send)(data)
            return
        self.sock.sendall(data)

    def write(self, data: bytes) -> None:
        """Send some of the body; the head goes with the first of it."""
        if type(data) is not bytes or self._omits_body:
            super().write(data)
            return
        size = len(data)
        if self.response_length is not None:
            left = self.response_length - self.sent
            if left < size:
                data = data[: max(left, 0)]
                size = len(data)
        if size:
            self.sent += size
            self._emit_body(data)
        elif not self.headers_sent:
            self.send_headers()

    def finish(self, pieces: Iterable[bytes]) -> None:
        """Send the rest of the body and end the response.

        A body that is a list is whole already: a small one leaves in one send.
        """
        whole = type(pieces) in (list, tuple) and not self.headers_sent
        if not (whole and self._send_whole(pieces)):  # type: ignore[arg-type]
            self._send_pieces(pieces)
            self.close()
        self._check_length(self.sent)

    def write_file(self, respiter: FileWrapper) -> None:
        """Send the body that a `wsgi.file_wrapper` stands for, and end the response."""
        # Of an empty file gunicorn would send the last chunk twice.
        try:
            whole = _bytes_left(respiter.filelike) > 0 and self.sendfile(respiter)
        except FileEnded as ended:  # it is shorter than was said, or was cut meanwhile
            said = "length was" if self.response_length is None else "Content-Length is"
            self._too_short(ended.sent, said, ended.count)
            return
        if whole:
            self.close()
        else:
            self.finish(respiter)

    def _check_length(self, sent: int) -> None:
        """End the connection of a body that is too short."""
        length = self.response_length
        if length is not None and sent < length and not self._omits_body:
            self._too_short(sent, "Content-Length is", length)

    def _too_short(self, sent: int, said: str, length: int) -> None:
        """The client waits for more, and would take the next response for it."""
        self.must_close = True
        logger.error(
            "%s %s: the body has %d bytes, but its %s %d; closing the connection",
            self.req.method,
            self.req.path,
            sent,
            said,
            length,
        )

    def _send_whole(self, pieces: Sequence[bytes]) -> bool:
        """Send a body of one piece, or of few bytes, and end the response.

        :return: False: it is neither, and nothing was sent.
        """
        if len(pieces) == 1 and not self.chunked:
            if not (
                type(pieces[0]) is bytes and len(pieces[0]) >= LEAST and self._send_kept(pieces)
            ):
                self.write(pieces[0])
            return True
        if not all(type(piece) is bytes for piece in pieces):
            return False
        size = sum(map(len, pieces))
        if size > JOIN_SIZE:
            return False
        if not self.chunked:
            self.write(b"".join(pieces))
            return True
        self.sent += size
        chunks = b"".join([b"%X\r\n%b\r\n" % (len(piece), piece) for piece in pieces if piece])
        head = self.head()
        self.headers_sent = True
        self.sock.sendall(head + chunks + b"0\r\n\r\n")
        return True

    def _send_kept(self, pieces: Sequence[bytes]) -> bool:
        """Send a large body that the application keeps without copying it, if it was sent before.

        :return: False: it is another one, and nothing was sent.
        """
        files, size = self.sock.body_files, len(pieces[0])
        # A body that nothing but this sequence holds will not come again.
        if files is None or self._omits_body or getrefcount(pieces[0]) <= HELD_ONCE:
            return False
        if self.response_length not in (None, size):
            return False
        file = files.file_of(pieces[0])
        if file is None:
            return False
        head = self.head()
        self.headers_sent = True
        self.sent += size
        self.sock.send_file(head, file, size)
        return True

    def _send_pieces(self, pieces: Iterable[bytes]) -> None:
        """Send each piece before the next is asked for; the first leaves at once, with the head."""
        corks = self.sock.corks
        try:
            for piece in pieces:
                self.write(piece)
                if corks and self._cork is None:
                    self._cork = self.sock.cork()
        except BaseException:
            # Closing the connection drops what was not sent, if something has come meanwhile.
            if self._cork is not None:
                self._cork.push()
            raise

    def close(self) -> None:
        """End the response: the last chunk, the head where there was no body, what was kept."""
        last = b"0\r\n\r\n" if self.chunked else b""
        if not self.headers_sent:
            head = self.head()
            self.headers_sent = True
            self.sock.sendall(head + last)
        elif self._cork is not None and last:
            self._cork.send_all(last)
        elif self._cork is not None and self._cork.kept:
            self._cork.push()
        elif last:
            self.sock.sendall(last)


def _bytes_left(file: Any) -> int:
    """From a file's position to its end; 0 for what is no file."""
    if not has_fileno(file):
        return 0
    try:
        number = file.fileno()
        return os.fstat(number).st_size - os.lseek(number, 0, os.SEEK_CUR)
    except OSError:
        return 0
