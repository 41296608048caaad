"""What holds for all tests: how long examples may take, and that collecting does not patch."""

import pytest
from gevent import monkey
from hypothesis import HealthCheck, settings

# A machine that stands still for a moment is no fault of the example that it ran just then.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")


def is_patched() -> bool:
    return bool(monkey.is_module_patched("socket"))


#: Some tests are run by processes that are patched on purpose, from their beginning.
FROM_THE_BEGINNING = is_patched()


def pytest_collection_finish() -> None:
    """Stop where a test module has imported one that patches.

    The processes that such a test should have started would not be what is tested.
    """
    if is_patched() and not FROM_THE_BEGINNING:
        pytest.exit("a test module has monkey-patched the process of the tests", returncode=1)
