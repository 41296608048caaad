"""Pyramid applications in this process, over a database in memory."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import transaction
import ZODB
from pyramid.config import Configurator
from pyramid.response import Response
from webtest import TestApp

from nti.appserver.settings import Settings
from nti.appserver.transactions import configure, connection, run, use_database

View = Callable[[Any], Any]
Serve = Callable[..., TestApp]


@pytest.fixture(autouse=True)
def database() -> Iterator[Any]:
    """An empty database, which this process's units of work use; no transaction is left."""
    configure(Settings())
    database = ZODB.DB(None)
    use_database(database)
    yield database
    assert transaction.manager.manager._txn is None, "a transaction was left behind"
    database.close()
    use_database(None)
    configure(Settings())


@pytest.fixture
def stored() -> Callable[[str], Any]:
    """What is in the root under a name, in a fresh unit of work; None: nothing."""

    def stored(name: str) -> Any:
        return run(lambda: connection().root().get(name))

    return stored


@pytest.fixture
def serve() -> Serve:
    """A test client of an application with one view, and what `extend(config)` adds."""

    def serve(
        view: View, extend: Callable[[Any], object] = lambda config: None, **settings: Any
    ) -> TestApp:
        config = Configurator(settings=settings)
        config.include("nti.appserver")
        config.add_route("view", "/*path")
        config.add_view(view, route_name="view")
        extend(config)
        return TestApp(config.make_wsgi_app())

    return serve


def put(request: Any, value: Any = 1) -> Response:
    """A view that writes."""
    connection().root()["x"] = value
    return Response("done")
