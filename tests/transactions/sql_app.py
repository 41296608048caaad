"""What `test_databases` has served: rows in PostgreSQL and objects in ZODB, written together.

Imported by the worker of the server under test, after patching.
"""

import os
from typing import Any

import gevent
import sqlalchemy
import transaction
import zope.sqlalchemy
from pyramid.config import Configurator
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from nti.appserver.transactions import connection

from .waiting import Waiting

insert = sqlalchemy.text("insert into rows values (:value)")
increment = sqlalchemy.text("update counter set value = value + 1")


def session(request: Any) -> Session:
    """The greenlet's session, a part of the request's unit of work."""
    made: Session = request.registry["session"]()
    return made


def add(request: Any) -> dict[str, Any]:
    """Write a row and an object; `fails` in a phase of the commit."""
    number = int(request.matchdict["number"])
    joined = session(request)
    joined.execute(insert, {"value": number})
    zope.sqlalchemy.mark_changed(joined)
    gevent.sleep(0)
    connection().root()["objects"] = (*connection().root().get("objects", ()), number)
    if "fails" in request.GET:
        transaction.get().join(Failing(request.GET["fails"]))
    return {}


def count(request: Any) -> dict[str, Any]:
    """Increment a counter in each database; many requests meet at both."""
    joined = session(request)
    joined.execute(increment)
    zope.sqlalchemy.mark_changed(joined)
    root = connection().root()
    value = root.get("counter", 0)
    gevent.sleep(0)
    root["counter"] = value + 1
    return {}


def lock(request: Any) -> dict[str, Any]:
    """Wait in the database for a lock, which somebody else has."""
    joined = session(request)
    joined.execute(sqlalchemy.text("select pg_advisory_xact_lock(1)"))
    return {}


def seen(request: Any) -> dict[str, Any]:
    """What both databases have."""
    joined = session(request)
    rows = joined.execute(sqlalchemy.text("select value from rows")).scalars().all()
    counted = joined.execute(sqlalchemy.text("select value from counter")).scalar()
    prepared = joined.execute(sqlalchemy.text("select count(*) from pg_prepared_xacts")).scalar()
    root = connection().root()
    return {
        "rows": sorted(rows),
        "objects": sorted(root.get("objects", ())),
        "counters": [counted, root.get("counter", 0)],
        "prepared": prepared,
    }


class Failing(Waiting):
    """Fails in one phase, after the databases have done their part of it."""

    def __init__(self, phase: str) -> None:
        super().__init__("", key="~~zzz")
        self.failing = phase

    def __getattr__(self, name: str) -> Any:
        if name == self.failing:
            raise ValueError("told to")
        return super().__getattr__(name)


def main(global_config: Any, **settings: Any) -> Any:
    config = Configurator(settings=settings)
    config.include("nti.appserver")
    engine = sqlalchemy.create_engine(os.environ["ROWS"])
    made = scoped_session(sessionmaker(bind=engine, twophase=True))
    zope.sqlalchemy.register(made)
    config.registry["session"] = made
    for view, pattern in (
        (add, "/add/{number}"),
        (count, "/count"),
        (lock, "/lock"),
        (seen, "/seen"),
    ):
        config.add_route(view.__name__, pattern)
        config.add_view(view, route_name=view.__name__, renderer="json")
    return config.make_wsgi_app()
