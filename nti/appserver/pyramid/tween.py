"""The tween: the transaction of an attempt, committed inside the router.

It lies over Pyramid's exception views, so they run inside the transaction and
what they answer to an error aborts it. What a commit or an abort itself raises
is given to the exception views once more, after the end. It runs in the
request's greenlet.
"""

from collections.abc import Callable
from typing import Any

import transaction
from pyramid.httpexceptions import HTTPNotFound
from pyramid.response import FileIter
from pyramid.settings import asbool
from pyramid.util import DottedNameResolver

from nti.appserver.pyramid.request import equip
from nti.appserver.pyramid.retries import mark
from nti.appserver.transactions.current import slot
from nti.appserver.transactions.instruments import FAILED
from nti.appserver.transactions.loop import loop_of, note_conflict
from nti.appserver.transactions.middleware import READS, runs_elsewhere
from nti.appserver.transactions.streaming import StreamedBody, pull_first
from nti.appserver.transactions.units import Unit, raw_manager

Handler = Callable[[Any], Any]

_resolve = DottedNameResolver(None).maybe_resolve


def default_commit_veto(request: Any, response: Any) -> bool:
    """Whether a response aborts: the header X-Tm, unless it is `commit`; else 4xx and 5xx."""
    told = response.headers.get("x-tm")
    if told is not None:
        return bool(told != "commit")
    return bool(response.status.startswith(("4", "5")))


def tween_factory(handler: Handler, registry: Any) -> Handler:
    """The tween over `handler`, as the registry's settings say."""
    settings = registry.settings or {}
    chosen = settings.get("pyramid_tm.commit_veto", default_commit_veto)  # its older name
    veto = _resolve(settings.get("tm.commit_veto", chosen) or None)
    activate = _resolve(settings.get("tm.activate_hook") or None)
    annotate = asbool(settings.get("tm.annotate_user", True))
    writes = asbool(settings.get("tm.writes_in_reads", False))

    def tween(request: Any) -> Any:
        environ = request.environ
        equip(request)  # a subrequest's may be of any class
        if runs_elsewhere(environ) or (activate is not None and not activate(request)):
            return handler(request)
        unit = slot.unit
        if unit is not None and unit.outermost and unit.transaction is None:
            return _Attempt(handler, request, unit, veto, annotate, writes).carry_out()
        if unit is not None and unit.manager is raw_manager(request.tm):
            return handler(request)  # a subrequest joins
        unit = Unit(request.tm, _path(request)).start()
        try:
            return _Attempt(handler, request, unit, veto, annotate, writes).carry_out()
        finally:  # it has dropped its stream where it failed
            end_or_stream(unit)

    return tween


def _path(request: Any) -> str:
    try:
        return str(request.path_info)
    except UnicodeDecodeError:
        return "Unable to decode path as unicode"


def drop_stream(unit: Unit) -> None:
    """Do without the streamed response that the unit of work has made, if any."""
    stream, unit.stream = unit.stream, None
    if stream is not None:
        stream.close()


def end_or_stream(unit: Unit) -> None:
    """End a unit of work, or let its streamed response go on in a second one."""
    stream = unit.stream
    if stream is None or stream.is_over:
        unit.end()
    else:
        unit.leave()
        stream.begin()


class _Attempt:
    """One attempt at a request, from begin to commit."""

    def __init__(
        self, handler: Handler, request: Any, unit: Unit, veto: Any, annotate: bool, writes: bool
    ) -> None:
        self._handler = handler
        self._request = request
        self._unit = unit
        self._veto = veto
        self._raised: BaseException | None = None
        self._manager = manager = request.tm
        if manager is not transaction.manager:  # else the unit of work has it already
            unit.manager = raw_manager(manager)
        unit.reading = not writes and request.environ["REQUEST_METHOD"] in READS
        unit.veto = self._vetoed
        if annotate:
            unit.user = self._user

    def carry_out(self) -> Any:
        """The response; the transaction has ended.

        :raises BaseException: what the handler raised, or, where no exception
            view answers it, the end of the transaction.
        """
        unit = self._unit
        try:
            return loop_of(1).carry_out(unit, self._run, ())
        except BaseException as problem:
            drop_stream(unit)
            if not isinstance(problem, Exception):
                raise
            if unit.conflict is problem:
                mark(problem)
            # The handler's own, which exception views have had; or what arrived after the commit.
            if problem is self._raised or problem is unit.arrived:
                raise
            return self._answer_to(problem)

    def _run(self) -> Any:
        request = self._request
        environ = request.environ
        environ["tm.active"] = True
        environ["tm.manager"] = self._manager
        try:
            response = self._handle()
            squashed = getattr(request, "exc_info", None)
            if squashed is not None:
                self._note_conflict(squashed[1])
            self._pull(response)
            return response
        finally:
            environ.pop("tm.active", None)
            environ.pop("tm.manager", None)

    def _handle(self) -> Any:
        try:
            return self._handler(self._request)
        except Exception as raised:
            self._raised = raised
            raise

    def _answer_to(self, problem: Exception) -> Any:
        info = (type(problem), problem, problem.__traceback__)
        try:
            return self._request.invoke_exception_view(info)
        except HTTPNotFound:
            raise problem from None

    def _vetoed(self, response: Any) -> bool:
        """Whether the response aborts; one that an exception view made does without a veto, too."""
        if self._unit.conflict is not None:
            return True
        if self._veto is None:
            return getattr(self._request, "exc_info", None) is not None
        return bool(self._veto(self._request, response))

    def _note_conflict(self, problem: BaseException) -> None:
        """An exception view has answered an error; it may be worth another attempt."""
        unit = self._unit
        tx = unit.transaction
        if tx is None or problem is unit.refused or not tx.isRetryableError(problem):
            return  # what an object has refused is raised again
        tx.outcome = FAILED
        note_conflict(unit, problem)
        mark(problem)

    def _user(self) -> str | None:
        return self._request.authenticated_userid  # type: ignore[no-any-return]

    def _pull(self, response: Any) -> None:
        """Pull the first chunk of a response that is made while it is sent."""
        chunks = getattr(response, "_app_iter", None)
        wrapper = self._request.environ.get("wsgi.file_wrapper", FileIter)
        if (
            chunks is None
            or isinstance(chunks, (list, tuple, FileIter))
            or (isinstance(wrapper, type) and isinstance(chunks, wrapper))
        ):
            return
        first, rest = pull_first(chunks)
        # Not by the property: that would forget the response's Content-Length.
        if rest is None:
            response._app_iter = first
            if hasattr(chunks, "close"):
                chunks.close()
        else:
            self._unit.stream = StreamedBody(self._unit, first, rest, chunks)
            response._app_iter = self._unit.stream
