"""Units of work: begin, lease a connection, run, commit, try again.

What may live here: whatever belongs to the life of one unit of work, for
requests, WebSocket messages, Socket.IO events, scripts and spawned greenlets.
Everything runs in the greenlet (or thread) that the unit of work runs in.

This package is imported after patching, never in gunicorn's arbiter:
`transaction` and this package keep what belongs to one greenlet in
`threading.local`, and an import before patching would share it among all.
"""

from nti.appserver.transactions.connections import ForeignUse
from nti.appserver.transactions.current import NoUnitOfWork
from nti.appserver.transactions.databases import configure, use_database
from nti.appserver.transactions.effects import on_abort, on_commit
from nti.appserver.transactions.middleware import TransactionMiddleware
from nti.appserver.transactions.units import allow_writes, connection, run

__all__ = [
    "ForeignUse",
    "NoUnitOfWork",
    "TransactionMiddleware",
    "allow_writes",
    "configure",
    "connection",
    "on_abort",
    "on_commit",
    "run",
    "use_database",
]
