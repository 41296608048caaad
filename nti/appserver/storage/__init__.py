"""From a URI to a database, and what a storage needs beside greenlets.

Imported in the process that uses it, after patching: ZODB and ZEO take their
locks from `threading` as they find it. Opening may wait for a lock or a
server; it is done once, in the main greenlet, before a worker accepts.
"""

from nti.appserver.storage.database import open_database, prepare_clients
from nti.appserver.storage.errors import CommitInDoubt

__all__ = ["CommitInDoubt", "open_database", "prepare_clients"]
