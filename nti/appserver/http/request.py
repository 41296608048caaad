"""A request of the fast path, as hooks and access logs see it.

Plain data, shaped like gunicorn's own `Request`; nothing here waits.
"""

from typing import Any


class Request:
    """One request. Its attributes are those of gunicorn's `Request`.

    :param lines: the field lines as they came, for `headers`.
    :param connection: the Connection field's value, where there is one.
    """

    __slots__ = (
        "_keeps",
        "_lines",
        "body",
        "method",
        "must_close",
        "peer_addr",
        "proxy_protocol_info",
        "query",
        "scheme",
        "uri",
        "version",
    )

    fragment = ""
    trailers: tuple[tuple[str, str], ...] = ()
    _expected_100_continue = False

    def __init__(
        self,
        method: str,
        uri: str,
        query: str,
        version: tuple[int, int],
        scheme: str,
        lines: list[bytes],
        connection: str | None,
    ) -> None:
        self.method = method
        self.uri = uri
        self.query = query
        self.version = version
        self.scheme = scheme
        self.body: Any = None
        self.peer_addr: Any = None
        self.proxy_protocol_info: Any = None
        self.must_close = False
        self._lines = lines
        if connection is None:
            self._keeps = version > (1, 0)
        else:
            word = connection.lower()
            self._keeps = word != "close" and (version > (1, 0) or word == "keep-alive")

    @property
    def remote_addr(self) -> Any:
        return self.peer_addr

    @property
    def path(self) -> str:
        """The path as sent, without the query."""
        return self.uri.partition("?")[0]

    @property
    def headers(self) -> list[tuple[str, str]]:
        """Names in capitals and values, in the order they came."""
        pairs = (line.decode("latin-1").split(":", 1) for line in self._lines)
        return [(name.upper(), value.strip(" \t")) for name, value in pairs]

    def force_close(self) -> None:
        """Keep the connection no longer than for this request."""
        self.must_close = True

    def should_close(self) -> bool:
        """Whether the connection ends after this request (RFC 9112, section 9.3)."""
        return self.must_close or not self._keeps
