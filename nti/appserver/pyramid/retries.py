"""Which failures of a request are tried again, and telling subscribers of it.

pyramid_retry's marks, events and predicates keep their meaning where that
package is installed; it need not be.
"""

from typing import Any

from transaction.interfaces import TransientError
from zope.interface import Interface, alsoProvides

from nti.appserver.transactions.units import Unit

try:
    from pyramid_retry import BeforeRetry, IRetryableError, RetryableException
except ImportError:  # pyramid_retry is not installed
    BeforeRetry = None

    class IRetryableError(Interface):  # type: ignore[misc,no-redef]
        """Marks an exception, class or instance, as worth another attempt."""

    class RetryableException(Exception):  # type: ignore[no-redef]
        """Worth another attempt."""


def is_last_attempt(request: Any) -> bool:
    """Whether there is no attempt after this one."""
    environ = request.environ
    attempt, attempts = environ.get("retry.attempt"), environ.get("retry.attempts")
    return attempt is None or attempts is None or attempt + 1 >= attempts


def is_marked(problem: object) -> bool:
    """Whether an exception is transient or marked as worth another attempt."""
    return isinstance(problem, (TransientError, RetryableException)) or IRetryableError.providedBy(
        problem
    )


def mark(problem: BaseException) -> None:
    """Mark an exception as worth another attempt."""
    alsoProvides(problem, IRetryableError)


def is_error_retryable(request: Any, problem: object) -> bool:
    """Whether an exception is worth another attempt, and there will be one."""
    return not is_last_attempt(request) and is_marked(problem)


def is_retryable(request: Any, problem: BaseException, unit: Unit) -> bool:
    """The same, asked after the attempt: then its data managers have had their say, too."""
    return not is_last_attempt(request) and (is_marked(problem) or unit.conflict is problem)


def before_retry(request: Any, problem: BaseException | None, response: Any) -> None:
    """Notify subscribers that the request object is thrown away and made anew."""
    if BeforeRetry is not None:
        request.registry.notify(BeforeRetry(request, problem, response=response))
