"""What of gunicorn's internals the HTTP server relies on, and the versions it was checked with.

When this fails with a new gunicorn: MIRRORED tells which of its functions have changed whose
behaviour is written out again in ours, and where: carry each change over. Compare the others in
RELIED_ON with the version before. Then run tests/http, tests/websocket and
`python -m tests.http.differential 1000000`, change VERSIONS and digests here, and the bound in
pyproject.toml.
"""

import hashlib
import inspect
from typing import Any

import gunicorn
import pytest
from gunicorn import glogging, util
from gunicorn.config import Config, ForwarderHeaders, PostRequest, PreRequest
from gunicorn.http import get_parser, message, parser, unreader, wsgi
from gunicorn.http2 import negotiation
from gunicorn.workers import base, base_async, ggevent

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
    (util.write_error, "sock status_int reason mesg"),  # http/serving.py: 408
    (ForwarderHeaders, ""),  # http/stock.py: its default is not ours
    (PreRequest.default, "worker req"),  # http/serving.py: a hook that is not set is not called
    (PostRequest.default, "worker req environ resp"),
]


#: What ours does again in its own words, where, and the digest of the source it was compared with.
MIRRORED: list[tuple[Any, str, str]] = [
    (message.Request.parse_request_line, "http/head.py", "77187ebabb46addb"),
    (message.Message.parse_headers, "http/head.py", "fe09a6b5e706bd64"),
    (message.HeaderPolicy, "http/head.py", "84bc24b291e79234"),
    (message.Message.set_body_reader, "http/serving.py: _fast", "e3ba33f5ac7ca542"),
    (message.Message.should_close, "http/request.py", "37c454bfb3e36316"),
    (parser.Parser, "http/stock.py, http/serving.py: _behind", "3a9c06e348c7e3b5"),
    (wsgi.create, "http/listener.py: environ, name_server", "2c35d4a2dc629ede"),
    (wsgi.base_environ, "http/listener.py", "942494574f2cdd6d"),
    (wsgi.WSGIErrorsWrapper, "http/listener.py: Errors", "b8dac8d043f639d8"),
    (wsgi.Response, "http/response.py", "d67f8e6b29d76622"),
    (glogging.Logger.atoms, "http/access.py", "01225e5e5f3ce6c2"),
    (glogging.Logger.access, "http/access.py", "45fce61c353b69b2"),
    (base_async.AsyncWorker.handle, "http/serving.py", "6eb3b127e6ba7e84"),
    (base_async.AsyncWorker.handle_request, "http/serving.py: _answer", "913e17a9542aa70d"),
    (ggevent.GeventWorker.run, "http/server.py, http/draining.py", "50119854ef8be38c"),
    (ggevent.GeventWorker.handle_request, "http/serving.py: _failed", "46750b15c6e4d4b4"),
]


@pytest.mark.parametrize(("internal", "ours", "digest"), MIRRORED)
def test_what_ours_mirrors_has_not_changed(internal: Any, ours: str, digest: str) -> None:
    seen = hashlib.sha256(inspect.getsource(internal).encode()).hexdigest()[:16]
    assert seen == digest, (
        f"gunicorn {gunicorn.__version__} has changed {internal.__qualname__}: carry it over to "
        f"nti/appserver/{ours}"
    )


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
