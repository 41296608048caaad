"""A file of the library as a response: its type, its validators, its ranges, its sandbox.

The bytes are read while the response is sent, in the request's greenlet, after
its unit of work has ended.
"""

import mimetypes
from collections.abc import Iterator
from typing import Any

from pyramid.response import Response

from nti.appserver.dataserver.library.files import OpenFile

#: A page of the library may run its scripts, and be nobody: its origin is unlike any other, so
#: that its scripts can neither read the site's pages nor act with the reader's cookie.
SANDBOX = "sandbox allow-scripts"

#: Added to a page that the reader's frame shows: tells the frame's owner which page it is.
FRAME_SCRIPT = b'\n<script src="/static/frame.js"></script>\n'

BLOCK = 64 * 1024

_TYPES = mimetypes.MimeTypes()
for _suffix, _type in {
    ".avif": "image/avif",
    ".css": "text/css",
    ".htm": "text/html",
    ".html": "text/html",
    ".ico": "image/x-icon",
    ".js": "text/javascript",
    ".json": "application/json",
    ".mjs": "text/javascript",
    ".mp4": "video/mp4",
    ".svg": "image/svg+xml",
    ".vtt": "text/vtt",
    ".wasm": "application/wasm",
    ".webm": "video/webm",
    ".webp": "image/webp",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
    ".xhtml": "application/xhtml+xml",
}.items():
    _TYPES.add_type(_type, _suffix)


def type_of(path: str) -> str:
    """The media type that a file's name tells; what is compressed is a download."""
    kind, encoding = _TYPES.guess_type(path, strict=False)
    if encoding:
        return "application/gzip" if encoding == "gzip" else "application/octet-stream"
    return kind or "application/octet-stream"


class FileBody:
    """The bytes of an open file and of what follows it; closes the file.

    WebOb asks for a range with `app_iter_range`.
    """

    def __init__(self, opened: OpenFile, suffix: bytes) -> None:
        self._file = opened.file
        self._size = opened.size
        self._suffix = suffix

    def __iter__(self) -> Iterator[bytes]:
        return self.app_iter_range(0, self._size + len(self._suffix))

    def app_iter_range(self, start: int, stop: int) -> Iterator[bytes]:
        """The bytes from `start` up to, not including, `stop`."""
        try:
            self._file.seek(min(start, self._size))
            left = min(stop, self._size) - start
            while left > 0 and (block := self._file.read(min(BLOCK, left))):
                left -= len(block)
                yield block
            if stop > self._size:
                yield self._suffix[max(0, start - self._size) : stop - self._size]
        finally:
            self.close()

    def close(self) -> None:
        self._file.close()


def file_response(opened: OpenFile, *, framed: bool) -> Any:
    """Serve a file: conditional requests and a single range (RFC 9110, sections 13 and 14).

    :param framed: whether FRAME_SCRIPT follows the file.
    """
    suffix = FRAME_SCRIPT if framed else b""
    kind = type_of(opened.path)
    response = Response(content_type=kind, conditional_response=True)
    # An HTML page says its encoding itself; other text is UTF-8.
    response.charset = "utf-8" if kind.startswith("text/") and kind != "text/html" else None
    response.app_iter = FileBody(opened, suffix)
    response.content_length = opened.size + len(suffix)
    response.accept_ranges = "bytes"
    response.last_modified = opened.modified // 1_000_000_000
    response.etag = f"{opened.modified:x}.{opened.size:x}" + (".framed" if framed else "")
    response.cache_control = "no-cache"
    response.headers["Content-Security-Policy"] = SANDBOX
    return response
