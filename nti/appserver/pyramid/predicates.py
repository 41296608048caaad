"""View predicates for exception views, as pyramid_tm and pyramid_retry have them."""

from typing import Any

from pyramid.exceptions import ConfigurationError

from nti.appserver.pyramid.retries import is_error_retryable, is_last_attempt


class _Predicate:
    """A predicate that is true or false of a request."""

    name = ""

    def __init__(self, value: Any, config: Any) -> None:
        if not isinstance(value, bool):
            raise ConfigurationError(
                f"view predicate {self.name}: saw {value!r}, expected True or False"
            )
        self.value = value

    def text(self) -> str:
        return f"{self.name} = {self.value}"

    phash = text

    def __call__(self, context: Any, request: Any) -> bool:
        return self.holds(request) == self.value

    def holds(self, request: Any) -> bool:
        raise NotImplementedError


class TMActivePredicate(_Predicate):
    """`tm_active`: whether the request's transaction is under way."""

    name = "tm_active"

    def holds(self, request: Any) -> bool:
        return bool(request.environ.get("tm.active"))


class LastAttemptPredicate(_Predicate):
    """`last_retry_attempt`: whether there is no attempt after this one."""

    name = "last_retry_attempt"

    def holds(self, request: Any) -> bool:
        return is_last_attempt(request)


class RetryableErrorPredicate(_Predicate):
    """`retryable_error`: whether the exception will be followed by another attempt."""

    name = "retryable_error"

    def holds(self, request: Any) -> bool:
        return is_error_retryable(request, getattr(request, "exception", None))
