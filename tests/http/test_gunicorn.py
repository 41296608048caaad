"""What of gunicorn's internals the HTTP server relies on, and the versions it was checked with.

When this fails: run tests/http, tests/websocket and `python -m tests.http.differential 1000000`
with the new gunicorn, compare the sources named in RELIED_ON with the version before, then
change VERSIONS here and the bound in pyproject.toml.
"""

import inspect
from typing import Any

import gunicorn
import pytest
from gunicorn.config import Config
from gunicorn.http import get_parser, message, unreader, wsgi
from gunicorn.http2 import negotiation
from gunicorn.workers import base, base_async

VERSIONS = ("27.0.1",)

RECHECK = (
    "the HTTP server was not checked with gunicorn {seen}: do what the docstring of "
    "tests/http/test_gunicorn.py says"
)

#: What is called or derived from, and the parameters it is used with. Re-check for each: order of
#: effects, what is raised, which attributes it reads of its arguments.
RELIED_ON: list[tuple[Any, str]] = [
    (get_parser, "cfg source source_addr"),  # http/stock.py: the parser of unusual requests
    (unreader.Unreader.chunk, "self size_hint"),  # http/stock.py: reads from our connections
    (unreader.Unreader.unread, "self data"),
    (unreader.Unreader.take_buffered, "self"),
    (wsgi.create, "req sock client server cfg response_class response_args"),
    (wsgi.base_environ, "cfg"),  # http/listener.py: the template of environ
    (wsgi.proxy_environ, "req"),
    (wsgi.Response.start_response, "self status headers exc_info"),  # http/response.py derives
    (wsgi.Response.process_headers, "self headers"),
    (wsgi.Response.write_file, "self respiter"),
    (wsgi._make_early_hints_callback, "req sock resp"),
    (
        negotiation.prior_knowledge_allowed,
        "cfg peer_addr",
    ),  # http/listener.py: HTTP/2 is left alone
    (negotiation.upgrade_allowed, "cfg peer_addr"),
    (base_async.AsyncWorker.handle, "self listener client addr"),
    (base.Worker.handle_error, "self req client addr exc"),
]


def test_the_version_was_checked() -> None:
    assert gunicorn.__version__ in VERSIONS, RECHECK.format(seen=gunicorn.__version__)


@pytest.mark.parametrize(("internal", "parameters"), RELIED_ON)
def test_signatures(internal: Any, parameters: str) -> None:
    assert list(inspect.signature(internal).parameters)[: len(parameters.split())] == (
        parameters.split()
    ), RECHECK.format(seen=gunicorn.__version__)


def test_response_has_no_state_that_ours_lacks() -> None:
    """Our Response sets every attribute itself: a new one of gunicorn's would be missing."""
    from nti.appserver.http.response import Response

    class Req:
        version = (1, 1)
        method = "GET"

    stock = wsgi.Response(Req(), None, Config())
    ours = Response(Req(), None, Config(), lambda: True)
    assert [name for name in vars(stock) if not hasattr(ours, name)] == []


def test_limits_of_the_parser() -> None:
    """http/head.py uses them by these names."""
    assert message.MAX_REQUEST_LINE == 8190
    assert message.MAX_HEADERS == 32768
    assert message.DEFAULT_MAX_HEADERFIELD_SIZE == 8190
