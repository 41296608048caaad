"""The execution policy: each attempt at a request is a unit of work of its own.

The unit of work lasts from before the request object is made until after its
finished callbacks, so what these read is still leased. The transaction within
it belongs to the tween, because it must be committed inside the router. A
request is tried again here, with a fresh request object and the same environ,
as pyramid_retry does.
"""

import time
from collections.abc import Callable
from random import uniform
from typing import Any

from pyramid.response import Response
from pyramid.router import default_execution_policy

from nti.appserver.pyramid.request import equip
from nti.appserver.pyramid.retries import before_retry, is_retryable
from nti.appserver.pyramid.tween import drop_stream, end_or_stream
from nti.appserver.transactions.bodies import ReplayInput
from nti.appserver.transactions.current import slot
from nti.appserver.transactions.databases import settings_of_process
from nti.appserver.transactions.loop import BACKOFF, LONGEST_BACKOFF, stays_away
from nti.appserver.transactions.middleware import description_of, fault_of, has_answer, has_body
from nti.appserver.transactions.turns import Turn, next_turn
from nti.appserver.transactions.units import Unit

Environ = dict[str, Any]

#: What WebOb has made of the body, and would not make again of a body that was rewound.
_WEBOB = ("webob.is_body_seekable", "webob._parsed_post_vars", "webob._body_file")


class UnitOfWorkPolicy:
    """Runs requests as units of work.

    :param attempts: how often a request is tried, the first included.
    :param activate_hook: called with the first request; the attempts for it, or
        None for `attempts`.
    """

    #: `TransactionMiddleware` steps aside where it sees this.
    runs_units_of_work = True

    def __init__(
        self, attempts: int, activate_hook: Callable[[Any], int | None] | None = None
    ) -> None:
        self.attempts = attempts
        self.activate_hook = activate_hook

    def __call__(self, environ: Environ, router: Any) -> Any:
        if "wsgi.websocket" in environ or "repoze.tm.active" in environ:
            return default_execution_policy(environ, router)
        around = slot.unit
        if around is not None and around.outermost and not around.aside:
            around.step_aside()  # the WSGI middleware did not see that this is Pyramid
            environ.pop("tm.active", None)
            environ.pop("tm.manager", None)
        elif "tm.active" in environ:
            return default_execution_policy(environ, router)
        return _Exchange(self, environ, router).carry_out()


class _Exchange:
    """One request: its attempts, and the response of the last."""

    def __init__(self, policy: UnitOfWorkPolicy, environ: Environ, router: Any) -> None:
        self._policy = policy
        self._environ = environ
        self._router = router
        self._attempts = policy.attempts
        self._input: ReplayInput | None = None
        self._deadline = time.monotonic() + settings_of_process().request_deadline

    def carry_out(self) -> Any:
        """The response, its unit of work committed or aborted."""
        number = 0
        turn: Turn | None = None
        while True:
            unit = Unit(None, description_of(self._environ))
            unit.outermost = True
            unit.deadline = self._deadline
            unit.replayable = self._replayable
            unit.turn = turn
            unit.attempts_left = self._attempts - number - 1
            unit.start()
            try:
                response = self._attempt(unit, number)
                if response is None:
                    turn, unit.turn = unit.turn, None
            except BaseException as problem:
                drop_stream(unit)
                if has_answer(problem, unit):
                    return _refused(problem, unit)
                raise
            finally:
                end_or_stream(unit)
            if response is not None:
                return response
            number += 1
            turn = self._again(number, turn, unit)

    def _attempt(self, unit: Unit, number: int) -> Any:
        """One attempt; None: try again."""
        environ = self._environ
        environ["retry.attempt"] = number
        environ["retry.attempts"] = self._attempts
        context = self._router.request_context(environ)
        request = context.begin()
        try:
            equip(request)
            if number == 0:
                self._first(request)
                unit.attempts_left = self._attempts - 1
            try:
                response = self._router.invoke_request(request)
                problem = getattr(request, "exception", None)
                if problem is None or not self._is_to_be_retried(unit, request, problem):
                    return response
            except Exception as raised:
                if not self._is_to_be_retried(unit, request, raised):
                    raise
                before_retry(request, raised, None)
            else:
                before_retry(request, problem, response)
                drop_stream(unit)
            return None
        finally:
            context.end()
            environ.pop("retry.attempt", None)
            environ.pop("retry.attempts", None)

    def _first(self, request: Any) -> None:
        hook = self._policy.activate_hook
        if hook is not None:
            attempts = hook(request)
            if attempts is not None:
                if attempts < 1:
                    raise ValueError(f"retry.activate_hook: saw {attempts}, expected 1 or more")
                self._attempts = self._environ["retry.attempts"] = attempts
        source = self._environ.get("wsgi.input")
        if self._attempts > 1 and source is not None and has_body(self._environ):
            settings = settings_of_process()
            self._input = ReplayInput(source, settings.body_memory, settings.body_replay)
            self._environ["wsgi.input"] = self._input

    def _is_to_be_retried(self, unit: Unit, request: Any, problem: BaseException) -> bool:
        return (
            not unit.committed
            and is_retryable(request, problem, unit)
            and self._replayable()
            and time.monotonic() < self._deadline
            and not stays_away(unit, problem)
        )

    def _replayable(self) -> bool:
        return self._input is None or self._input.replayable

    def _again(self, number: int, turn: Turn | None, unit: Unit) -> Turn | None:
        """Prepare another attempt: take the body back to its beginning, wait for a turn."""
        if self._input is not None:
            self._input.rewind()
            self._environ["wsgi.input"] = self._input
        for key in _WEBOB:
            self._environ.pop(key, None)
        turn = next_turn(turn, unit.conflict, self._deadline)
        try:
            if turn is None:
                time.sleep(uniform(0, min(BACKOFF * (2**number - 1), LONGEST_BACKOFF)))
            unit.catch_up()
        except BaseException:  # a kill
            if turn is not None:
                turn.end()
            raise
        return turn


def _refused(problem: BaseException, unit: Unit) -> Response:
    """The response to a failure whose answer is known, 503 for conflicts."""
    fault = fault_of(problem, unit)
    response = Response(
        status=fault.status_line, body=fault.detail.encode() + b"\n", content_type="text/plain"
    )
    response.headers.extend(fault.headers)
    return response
