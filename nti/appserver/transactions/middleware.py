"""WSGI: every request is a unit of work.

An `Exchange` is one request and its answer. It runs in the request's greenlet.
Nothing is sent before the commit: `start_response` is kept until then, so an
attempt that fails leaves no trace with the client.
"""

import logging
from collections.abc import Callable, Iterable
from typing import Any

import transaction
from transaction.interfaces import TransientError

from nti.appserver.errors import HTTPFault, ServiceUnavailable
from nti.appserver.settings import Settings
from nti.appserver.storage.errors import away
from nti.appserver.transactions.bodies import ReplayInput
from nti.appserver.transactions.databases import configure, settings_of_process
from nti.appserver.transactions.loop import loop_of
from nti.appserver.transactions.streaming import StreamedBody, pull_first
from nti.appserver.transactions.units import Unit

logger = logging.getLogger("nti.appserver.transactions")

Environ = dict[str, Any]
StartResponse = Callable[..., Callable[[bytes], object]]
Application = Callable[[Environ, StartResponse], Iterable[bytes]]
Headers = list[tuple[str, str]]

#: Methods that are free of side effects (RFC 9110, section 9.2.1).
READS = frozenset(("GET", "HEAD"))


def runs_elsewhere(environ: Environ) -> bool:
    """Whether something else runs the transaction, or there is no request but a WebSocket."""
    return "tm.active" in environ or "wsgi.websocket" in environ or "repoze.tm.active" in environ


def default_veto(status: str, headers: Headers) -> bool:
    """Whether an answer aborts: the header X-Tm, unless it is `commit`; else 4xx and 5xx."""
    for name, value in headers:
        if name.lower() == "x-tm":
            return value != "commit"
    return status.startswith(("4", "5"))


class TransactionMiddleware:
    """Runs each request of a WSGI application as a unit of work.

    It steps aside where something else does so: under `nti.appserver.pyramid`,
    pyramid_tm or repoze.tm, and for WebSockets, whose messages are units of
    work of their own.

    :param app: the application.
    :param settings: for all units of work of this process, where given.
    :param veto: called with the status and the headers of an answer; true: abort.
    """

    def __init__(
        self,
        app: Application,
        settings: Settings | None = None,
        *,
        veto: Callable[[str, Headers], bool] = default_veto,
    ) -> None:
        self.app = app
        self.veto = veto
        if settings is not None:
            configure(settings)
        policy = getattr(app, "execution_policy", None)
        self._aside = getattr(policy, "runs_units_of_work", False)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        if self._aside or runs_elsewhere(environ):
            return self.app(environ, start_response)
        return Exchange(self, environ, start_response).carry_out()


class Answer:
    """What one attempt has answered; nothing of it is sent before the commit."""

    __slots__ = ("chunks", "headers", "rest", "result", "status")

    def __init__(self) -> None:
        self.status: str | None = None
        self.headers: Headers = []
        #: Chunks handed to `write`, then the first one pulled.
        self.chunks: list[bytes] = []
        #: What the application returned.
        self.result: Any = None
        #: The chunks after the first, of a streamed response.
        self.rest: Any = None

    def close(self) -> None:
        """Close what the application returned."""
        result, self.result = self.result, None
        close = getattr(result, "close", None)
        if close is not None:
            close()


class Exchange:
    """One request: its attempts, and the answer of the last."""

    def __init__(
        self, middleware: TransactionMiddleware, environ: Environ, start_response: StartResponse
    ) -> None:
        self._app = middleware.app
        self._veto = middleware.veto
        self._environ = environ
        self._start_response = start_response
        self._settings = settings_of_process()
        self._pristine: Environ = {}
        self._input: ReplayInput | None = None
        self._attempt_number = 0
        self._answer = Answer()
        self._sending = False
        self._unit = unit = Unit(
            None, description_of(environ), reading=environ["REQUEST_METHOD"] in READS
        )
        unit.outermost = True
        unit.veto = self._vetoed
        unit.user = self._user
        unit.replayable = self._replayable

    def carry_out(self) -> Iterable[bytes]:
        """The answer, committed; `start_response` has been called.

        :raises BaseException: what the application or the commit raised, where
            the server is to answer it.
        """
        unit = self._unit.start()
        attempts = self._settings.attempts
        if attempts > 1:
            self._keep_body()
            self._pristine = self._environ.copy()
        streams = False
        try:
            loop_of(attempts).carry_out(unit, self._attempt, ())
            streams = self._answer.rest is not None
        except BaseException as problem:
            self._answer.close()
            if not has_answer(problem, unit):
                raise
            return refuse(problem, unit, self._start_response)
        finally:
            unit.leave()
            if not streams:
                unit.finish()
        return self._sent()

    def _sent(self) -> Iterable[bytes]:
        """Call the server's start_response; what it is to send."""
        answer = self._answer
        self._sending = True
        body = answer.result
        if answer.rest is not None:
            body = StreamedBody(self._unit, answer.chunks, answer.rest, body).begin()
        if answer.status is not None:
            try:
                write = self._start_response(answer.status, answer.headers)
                if answer.rest is None:
                    for chunk in answer.chunks:
                        write(chunk)
            except BaseException:  # the server refuses a header, or the client has gone
                if hasattr(body, "close"):
                    body.close()
                raise
        return body  # type: ignore[no-any-return]

    # -- one attempt, in the loop

    def _attempt(self) -> None:
        environ = self._environ
        if self._attempt_number:
            self._answer.close()
            self._answer = Answer()
            environ.clear()
            environ.update(self._pristine)
            if self._input is not None:
                self._input.rewind()
        environ["retry.attempt"] = self._attempt_number
        environ["retry.attempts"] = self._settings.attempts
        environ["tm.manager"] = transaction.manager
        environ["tm.active"] = True
        self._attempt_number += 1
        try:
            self._answer.result = self._app(environ, self._note_start)
            if not self._unit.aside:
                self._pull(self._answer)
        finally:
            # What runs from here on, commit hooks and effects, has no transaction under way.
            environ.pop("tm.active", None)
            environ.pop("tm.manager", None)

    def _pull(self, answer: Answer) -> None:
        """Pull the first chunk of what is made while it is sent."""
        wrapper = self._environ.get("wsgi.file_wrapper")
        if isinstance(answer.result, (list, tuple)) or (
            isinstance(wrapper, type) and isinstance(answer.result, wrapper)
        ):
            return
        first, answer.rest = pull_first(answer.result)
        answer.chunks += first
        if answer.rest is None:
            answer.close()
            answer.result = []

    def _note_start(
        self, status: str, headers: Headers, exc_info: Any = None
    ) -> Callable[[bytes], object]:
        """PEP 3333's start_response, kept until the commit."""
        if self._sending:
            return self._start_response(status, headers, exc_info)
        answer = self._answer
        if answer.status is not None and exc_info is None:
            raise AssertionError("start_response was called twice without exc_info")
        answer.status, answer.headers = status, headers
        return answer.chunks.append

    # -- what the unit of work asks

    def _vetoed(self, _: Any) -> bool:
        status = self._answer.status
        return status is not None and self._veto(status, self._answer.headers)

    def _user(self) -> str | None:
        return self._environ.get("REMOTE_USER")

    def _replayable(self) -> bool:
        if self._input is None or self._input.replayable:
            return True
        logger.warning(
            "%s conflicts, and its body is too large to be kept for another attempt; "
            "the setting body_replay allows %d bytes",
            self._unit.label,
            self._settings.body_replay,
        )
        return False

    def _keep_body(self) -> None:
        environ = self._environ
        source = environ.get("wsgi.input")
        if source is not None and has_body(environ):
            environ["wsgi.input"] = self._input = ReplayInput(
                source, self._settings.body_memory, self._settings.body_replay
            )


def has_body(environ: Environ) -> bool:
    """Whether a request may have a body (RFC 9112, section 6)."""
    length = environ.get("CONTENT_LENGTH")
    return (
        (length is not None and length not in ("", "0"))
        or "HTTP_TRANSFER_ENCODING" in environ
        or bool(environ.get("wsgi.input_terminated") and environ["REQUEST_METHOD"] not in READS)
    )


def description_of(environ: Environ) -> str:
    """What undo logs call a request's transaction: its method and path."""
    path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    if not path.isascii():
        try:
            path = path.encode("latin-1").decode("utf-8", "replace")
        except UnicodeEncodeError:
            path = ascii(path)
    return f"{environ['REQUEST_METHOD']} {path or '/'}"


def has_answer(problem: BaseException, unit: Unit) -> bool:
    """Whether a failed unit of work is answered here.

    What arrived after the commit, or conflicts after it, is not: an answer that
    asks to try again would be wrong. It is raised, and the server ends the request.
    """
    if not isinstance(problem, (HTTPFault, TransientError)) and away(problem) is None:
        return False
    if not unit.committed:
        return True
    return problem is not unit.arrived and isinstance(problem, HTTPFault)


def refuse(problem: BaseException, unit: Unit, start_response: StartResponse) -> Iterable[bytes]:
    """Answer a failure whose answer is known, 503 for conflicts."""
    fault = fault_of(problem, unit)
    body = fault.detail.encode() + b"\n"
    headers = [
        ("Content-Type", "text/plain; charset=utf-8"),
        ("Content-Length", str(len(body))),
        *fault.headers,
    ]
    start_response(fault.status_line, headers)
    return [body]


def fault_of(problem: BaseException, unit: Unit) -> HTTPFault:
    """The fault that a failed unit of work is answered with; logged where it is ours."""
    if isinstance(problem, HTTPFault):
        if problem.status >= 500:
            logger.warning("%s: %s", unit.label, problem)
        return problem
    if (fault := away(problem)) is not None:
        logger.warning("%s: %s (%s)", unit.label, fault, problem)
        return fault
    logger.warning("%s conflicted to the last: %s", unit.label, problem)
    return ServiceUnavailable("Others changed the same at the same time.", retry_after=1)
