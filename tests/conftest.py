"""What holds for all tests: their process is not patched, only those that they start."""

import pytest
from gevent import monkey


def pytest_collection_finish() -> None:
    """Stop where a test module has imported one that patches.

    The processes that such a test should have started would not be what is tested.
    """
    if monkey.is_module_patched("socket"):
        pytest.exit("a test module has monkey-patched the process of the tests", returncode=1)
