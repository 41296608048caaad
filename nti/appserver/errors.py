"""Whose fault a failure is, and what to answer.

Only exception classes live here. They may be raised from any thread or
greenlet; nothing in this file waits or switches.

Three parties can be at fault: the operator (`ConfigurationError`), the client
(`ClientError`) and a part of the site that is away or full
(`ServiceUnavailable`). Whatever is none of these is a defect of the program
and is answered with a 500 that says nothing about its cause.
"""

from collections.abc import Sequence

Header = tuple[str, str]


class AppServerError(Exception):
    """Anything that this package itself raises on purpose."""


class ConfigurationError(AppServerError):
    """The operator asked for something that cannot be done.

    :param seen: what was found, and where.
    :param expected: what would have been right.
    :param mend: what to change; a command or a setting where there is one.
    """

    def __init__(self, seen: str, expected: str = "", mend: str = "") -> None:
        self.seen = seen
        self.expected = expected
        self.mend = mend
        parts = [seen]
        if expected:
            parts.append(f"expected {expected}")
        if mend:
            parts.append(mend)
        super().__init__("; ".join(parts))


class HTTPFault(AppServerError):
    """A failure that carries the answer to give (RFC 9110, section 15).

    `detail` is shown to the client: it must not name files, addresses or code.
    """

    status = 500
    title = "Internal Server Error"

    def __init__(self, detail: str = "", *, headers: Sequence[Header] = ()) -> None:
        self.detail = detail
        self.headers: tuple[Header, ...] = tuple(headers)
        super().__init__(detail or self.title)

    @property
    def status_line(self) -> str:
        """The status as `start_response` takes it, "503 Service Unavailable"."""
        return f"{self.status} {self.title}"


class ClientError(HTTPFault):
    """The client sent what cannot be served.

    :param status: 400 to 499.
    :param title: the reason phrase of that status.
    """

    def __init__(
        self,
        status: int = 400,
        title: str = "Bad Request",
        detail: str = "",
        *,
        headers: Sequence[Header] = (),
    ) -> None:
        if not 400 <= status <= 499:
            raise ValueError(f"status of a client error: saw {status}, expected 400 to 499")
        super().__init__(detail, headers=headers)
        self.status = status
        self.title = title
        self.args = (detail or title,)


class ServiceUnavailable(HTTPFault):
    """Something needed is away or full; the same request may work soon.

    :param retry_after: whole seconds, > 0, for the Retry-After header
        (RFC 9110, section 10.2.3).
    """

    status = 503
    title = "Service Unavailable"

    def __init__(self, detail: str = "", *, retry_after: int = 1) -> None:
        self.retry_after = retry_after
        super().__init__(detail, headers=[("Retry-After", str(retry_after))])
