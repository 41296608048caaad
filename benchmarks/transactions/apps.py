"""The same Pyramid views three times: bare, over units of work, over the usual packages.

Imported by the worker that serves them, after patching where that worker patches.
"""

import os
import time
from typing import Any

from persistent import Persistent
from pyramid.config import Configurator
from pyramid.response import Response
from transaction import TransactionManager

#: Objects that the writing views share out, so that clients seldom meet.
OBJECTS = 1000


class Counter(Persistent):
    """The one object that a view reads or writes."""

    value = 0


def fill(root: Any) -> None:
    """Make the objects."""
    if "counters" not in root:
        root["counters"] = [Counter() for _ in range(OBJECTS)]


def _root(request: Any) -> Any:
    return request.registry["connect"](request).root()


def read(request: Any) -> Response:
    """Read one object."""
    return Response(b"%d" % _root(request)["counters"][0].value)


def write(request: Any) -> Response:
    """Write one object."""
    _root(request)["counters"][int(request.matchdict["number"])].value += 1
    return Response(b"done")


def contend(request: Any) -> Response:
    """Change the object that everybody changes; between reading and writing others run."""
    counter = _root(request)["counters"][0]
    value = counter.value
    time.sleep(0)
    counter.value = value + 1
    return Response(b"done")


def hello(request: Any) -> Response:
    """Touch nothing."""
    return Response(b"hello")


def _views(config: Any) -> Any:
    for name, pattern, view in (
        ("hello", "/hello", hello),
        ("read", "/read", read),
        ("write", "/write/{number}", write),
        ("contend", "/contend", contend),
    ):
        config.add_route(name, pattern)
        config.add_view(view, route_name=name)
    return config.make_wsgi_app()


def bare() -> Any:
    """Pyramid alone; its view `read` reads through one connection that stays open."""
    database = _opened()
    with database.transaction() as filling:
        fill(filling.root())
    opened = database.open(TransactionManager())
    config = Configurator()
    config.registry["connect"] = lambda request: opened
    return _views(config)


def ours() -> Any:
    """Over this package."""
    from nti.appserver.transactions import connection, run, use_database

    use_database(_opened())
    run(lambda: fill(connection().root()))
    config = Configurator()
    config.include("nti.appserver")
    config.registry["connect"] = lambda request: connection()
    return _views(config)


def _opened() -> Any:
    from nti.appserver.storage import open_database

    return open_database(f"file://{os.environ['BENCHMARK_DATA']}")


def counter(global_config: Any, **settings: Any) -> Any:
    """The readme's application."""
    from nti.appserver.transactions import connection

    def count(request: Any) -> dict[str, int]:
        root = connection().root()
        root["visits"] = root.get("visits", 0) + 1
        return {"visits": root["visits"]}

    config = Configurator(settings=settings)
    config.include("nti.appserver")
    config.add_route("count", "/count")
    config.add_view(count, route_name="count", renderer="json")
    return config.make_wsgi_app()


def usual() -> Any:
    """Over pyramid_tm, pyramid_retry and pyramid_zodbconn, as their documents advise."""
    import transaction
    from pyramid_zodbconn import get_connection

    config = Configurator(
        settings={
            "zodbconn.uri": f"file://{os.environ['BENCHMARK_DATA']}?connection_pool_size=100",
            "tm.manager_hook": "pyramid_tm.explicit_manager",
            "retry.attempts": "3",
        }
    )
    for name in ("pyramid_retry", "pyramid_tm", "pyramid_zodbconn"):
        config.include(name)
    config.registry["connect"] = get_connection
    app = _views(config)
    opened = app.registry._zodb_databases[""].open()
    fill(opened.root())
    transaction.commit()
    opened.close()
    return app
