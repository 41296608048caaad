"""Errors say whose fault it is, and carry the answer to give."""

import pytest

from nti.appserver.errors import (
    AppServerError,
    ClientError,
    ConfigurationError,
    HTTPFault,
    ServiceUnavailable,
)


def test_a_configuration_error_says_what_was_seen_expected_and_how_to_mend_it() -> None:
    error = ConfigurationError("attempts is 0", "1 to 100", "set attempts")
    assert str(error) == "attempts is 0; expected 1 to 100; set attempts"
    assert (error.seen, error.expected, error.mend) == ("attempts is 0", "1 to 100", "set attempts")
    assert str(ConfigurationError("no file")) == "no file"


def test_a_client_error_carries_its_status() -> None:
    error = ClientError(409, "Conflict", "the note has changed", headers=[("ETag", '"2"')])
    assert error.status_line == "409 Conflict"
    assert error.headers == (("ETag", '"2"'),)
    assert str(error) == error.detail == "the note has changed"
    assert str(ClientError(404, "Not Found")) == "Not Found"


@pytest.mark.parametrize("status", [200, 399, 500])
def test_a_client_error_is_one_of_the_client(status: int) -> None:
    with pytest.raises(ValueError, match=f"saw {status}, expected 400 to 499"):
        ClientError(status)


def test_service_unavailable_says_when_to_come_back() -> None:
    error = ServiceUnavailable("the storage is away", retry_after=5)
    assert error.status_line == "503 Service Unavailable"
    assert error.headers == (("Retry-After", "5"),)


def test_the_rest_is_a_defect_of_the_program() -> None:
    assert HTTPFault().status_line == "500 Internal Server Error"
    for error in (HTTPFault, ClientError, ServiceUnavailable, ConfigurationError):
        assert issubclass(error, AppServerError)
