"""The head of a common request, from its bytes into environ (RFC 9112, sections 3 and 5).

Sans-I/O: bytes in, environ and a `Request` out; nothing waits. Two rules keep
it as strict as gunicorn's own parser:

1. It never refuses. Whatever is not plainly in order (an unusual method or
   target, a transfer coding, an expectation, a name that cannot be mapped, a
   field given twice, a limit reached, any byte that does not belong) is None,
   and gunicorn's parser gets the very same bytes.
2. What it accepts is checked with gunicorn's own expressions, once; the lines
   that clients repeat with every request are then found in a table. Lines that
   may hold secrets, or differ every time, are not kept.
"""

import re
from typing import Any

from gunicorn.http.message import (
    DEFAULT_MAX_HEADERFIELD_SIZE,
    MAX_HEADERS,
    MAX_REQUEST_LINE,
    RFC9110_5_5_INVALID_AND_DANGEROUS,
    RFC9112_TARGET_INVALID,
    TOKEN_RE,
)
from gunicorn.util import unquote_to_wsgi_str

from nti.appserver.http.request import Request

#: Entries of a table, and the longest line in one: a bound for what clients can make it hold.
TABLE_SIZE = 1024
TABLE_LINE = 512

METHODS = frozenset((b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"PATCH", b"OPTIONS"))
VERSIONS = {b"HTTP/1.1": ("HTTP/1.1", (1, 1)), b"HTTP/1.0": ("HTTP/1.0", (1, 0))}

#: Fields whose presence alone makes a request unusual.
UNUSUAL = frozenset(("TRANSFER-ENCODING", "EXPECT", "TRAILER"))

#: Fields that a client sends with the same value again and again, and no secret in them.
REPEATED = frozenset(
    b"host user-agent accept accept-encoding accept-language accept-charset connection "
    b"content-type cache-control pragma origin dnt upgrade upgrade-insecure-requests "
    b"sec-fetch-dest sec-fetch-mode sec-fetch-site sec-fetch-user sec-ch-ua sec-ch-ua-mobile "
    b"sec-ch-ua-platform x-requested-with x-forwarded-proto x-forwarded-host "
    b"x-forwarded-port priority keep-alive te".split()
)

_LENGTH = re.compile(r"[0-9]{1,18}")

_RequestLine = tuple[str, str, str, str, str, tuple[int, int]]
_Pair = tuple[str, str]
Environ = dict[str, Any]


class HeadParser:
    """Parses heads from peers of one kind, under one configuration.

    :param cfg: gunicorn's configuration.
    :param trusted: whether the peers may name the scheme.
    """

    def __init__(self, cfg: Any, *, trusted: bool, scheme: str) -> None:
        line = cfg.limit_request_line
        line = MAX_REQUEST_LINE if line < 0 else min(line or 1 << 20, MAX_REQUEST_LINE)
        fields = cfg.limit_request_fields
        self._line_limit = line
        self._fields_limit = fields if 0 < fields <= MAX_HEADERS else MAX_HEADERS
        size = cfg.limit_request_field_size
        self._field_limit = size if size > 0 else DEFAULT_MAX_HEADERFIELD_SIZE
        self._head_limit = self._fields_limit * (self._field_limit + 2)
        self._scheme = scheme
        headers = cfg.secure_scheme_headers if trusted else {}
        # A name with an underscore is no other's: a field of such a name is unusual anyway.
        self._schemes = [
            ("HTTP_" + name.replace("-", "_"), value)
            for name, value in headers.items()
            if "_" not in name
        ]
        self._request_lines: dict[bytes, _RequestLine] = {}
        self._lines: dict[bytes, _Pair] = {}
        self._names: dict[bytes, str] = {}
        self._find = self._lines.__getitem__

    def parse(self, head: bytes, environ: Environ) -> Request | None:
        """The request that `head` begins, its fields put into `environ`.

        :param head: all bytes before the empty line, without the last CRLF.
        :param environ: the connection's template, copied; of no use after None.
        :return: None: gunicorn's parser must judge these bytes.
        """
        lines = head.split(b"\r\n")
        first = lines.pop(0)
        try:
            parsed = self._request_lines[first]
        except KeyError:
            made = self._request_line(first)
            if made is None:
                return None
            parsed = made
        method, uri, path, query, protocol, version = parsed
        environ["REQUEST_METHOD"] = method
        environ["RAW_URI"] = uri
        environ["PATH_INFO"] = path
        environ["QUERY_STRING"] = query
        environ["SERVER_PROTOCOL"] = protocol
        expected = len(environ) + len(lines)
        try:
            environ.update(map(self._find, lines))
        except KeyError:
            if not self._add(lines, environ):
                return None
        if len(environ) != expected or len(lines) > self._fields_limit:
            return None  # a field given twice, or too many
        scheme = self._scheme
        if self._schemes:
            said = [environ[key] == secure for key, secure in self._schemes if key in environ]
            if said:
                if len(said) > 1:
                    return None
                scheme = environ["wsgi.url_scheme"] = "https" if said[0] else "http"
        return Request(method, uri, query, version, scheme, lines, environ.get("HTTP_CONNECTION"))

    def _request_line(self, line: bytes) -> _RequestLine | None:
        """Section 3: method, target, version; kept where the target has no query."""
        parts = line.split(b" ")
        if len(parts) != 3 or len(line) > self._line_limit:
            return None
        method, target, version = parts
        if method not in METHODS or version not in VERSIONS or target[:1] != b"/":
            return None
        uri = target.decode("latin-1")
        if uri[:2] == "//" or "#" in uri or RFC9112_TARGET_INVALID.search(uri):
            return None
        path, _, query = uri.partition("?")
        if "%" in path:
            path = unquote_to_wsgi_str(path)
        parsed = (method.decode(), uri, path, query, *VERSIONS[version])
        if not query and len(line) <= TABLE_LINE:
            _keep(self._request_lines, line, parsed)
        return parsed

    def _add(self, lines: list[bytes], environ: Environ) -> bool:
        """Put the fields into `environ` one by one; False: one of them is unusual."""
        known = self._lines
        for line in lines:
            pair = known.get(line) or self._field(line)
            if pair is None:
                return False
            environ[pair[0]] = pair[1]
        return True

    def _field(self, line: bytes) -> _Pair | None:
        """Section 5: one field line; None: it is unusual."""
        name, colon, rest = line.partition(b":")
        key = self._names.get(name) or self._name(name)
        if not colon or not key or len(line) + 2 > self._field_limit:
            return None
        value = rest.strip(b" \t").decode("latin-1")
        if RFC9110_5_5_INVALID_AND_DANGEROUS.search(value):
            return None
        if key == "CONTENT_LENGTH" and not _LENGTH.fullmatch(value):
            return None
        pair = (key, value)
        if len(line) <= TABLE_LINE and name.lower() in REPEATED:
            _keep(self._lines, line, pair)
        return pair

    def _name(self, name: bytes) -> str | None:
        """The environ key of a field name; None: it is unusual."""
        text = name.decode("latin-1")
        if not TOKEN_RE.fullmatch(text) or "_" in text or text.upper() in UNUSUAL:
            return None
        key = text.upper().replace("-", "_")
        if key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            key = "HTTP_" + key
        if len(name) <= TABLE_LINE:
            _keep(self._names, name, key)
        return key


def _keep(table: dict[bytes, Any], key: bytes, value: Any) -> None:
    if len(table) >= TABLE_SIZE:
        table.clear()
    table[key] = value
