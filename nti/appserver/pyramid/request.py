"""What requests gain: `request.tm`, `request.websocket`, and connections from our leases.

`pyramid_zodbconn.get_connection(request)` first looks for a connection at the
request itself; there it finds ours, which the unit of work gives back.
"""

from typing import Any

import transaction
from pyramid.decorator import reify
from pyramid.request import Request as PyramidRequest

from nti.appserver.transactions.current import current_unit


def transaction_manager(request: Any) -> Any:
    """`request.tm`: the transaction manager of the request's unit of work."""
    manager = request.environ.get("tm.manager")
    if manager is not None:
        return manager
    hook = request.registry.settings.get("tm.manager_hook")
    if hook:
        return _resolved(hook)(request)
    return transaction.manager


def primary_connection(request: Any) -> Any:
    """The leased connection to the application's database.

    That is the one of `zodbconn.uri` where pyramid_zodbconn was configured with
    one, else the database of this process.

    :raises NoUnitOfWork: the request runs outside of one, or there is no database.
    """
    databases = getattr(request.registry, "_zodb_databases", None) or {}
    return current_unit().connection(db=databases.get(""))


def websocket(request: Any) -> Any:
    """`request.websocket`: the WebSocket that the request has opened, or None."""
    return request.environ.get("wsgi.websocket")


class Request(PyramidRequest):  # type: ignore[misc]
    """Pyramid's request with what is gained here.

    It is the request factory unless the application sets its own, which then
    had better derive from this: what Pyramid adds to a request by
    `add_request_method` costs it a class for each request.
    """

    @reify  # type: ignore[untyped-decorator]
    def tm(self) -> Any:
        """The transaction manager of the request's unit of work."""
        return transaction_manager(self)

    @reify  # type: ignore[untyped-decorator]
    def _primary_zodb_conn(self) -> Any:
        return primary_connection(self)

    websocket = property(websocket)


def equip(request: Any) -> None:
    """Give a request of another class what `Request` has."""
    if not isinstance(request, Request) and "tm" not in request.__dict__:
        request.set_property(transaction_manager, "tm", reify=True)
        request.set_property(primary_connection, "_primary_zodb_conn", reify=True)
        request.set_property(websocket, "websocket")


def _resolved(hook: Any) -> Any:
    from pyramid.util import DottedNameResolver

    return DottedNameResolver(None).maybe_resolve(hook)
