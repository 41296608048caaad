"""What the patched programs of these tests have in common; imported in them, after patching."""

import time
from tempfile import TemporaryDirectory
from typing import Any

import gevent
import transaction
from transaction.interfaces import TransientError

from nti.appserver.settings import Settings
from nti.appserver.storage import open_database

_folders: list["TemporaryDirectory[str]"] = []


def opened(uri: str, **settings: Any) -> Any:
    """The database, with short times, its caches in a temporary folder."""
    _folders.append(TemporaryDirectory(prefix="var-"))
    given: dict[str, Any] = {"var": _folders[-1].name, "storage_timeout": 5.0, **settings}
    return open_database(uri, Settings(**given))


def increment(database: Any, name: str = "count", attempts: int = 1000) -> bool:
    """Add one in a transaction of its own; whether it was acknowledged."""
    for _ in range(attempts):
        manager = transaction.TransactionManager()
        connection = database.open(manager)
        try:
            manager.begin()
            root = connection.root()
            root[name] = root.get(name, 0) + 1
            manager.commit()
            return True
        except TransientError:
            manager.abort()
            gevent.sleep(0.01)
        except BaseException:
            manager.abort()
            raise
        finally:
            connection.close()
    return False


def count(database: Any, name: str = "count") -> int:
    """The counter, as a new transaction sees it."""
    with database.transaction() as connection:
        return int(connection.root().get(name, 0))


class Heartbeat:
    """A greenlet that shows that the hub runs: the longest pause between its beats, in seconds."""

    def __init__(self) -> None:
        self.longest = 0.0
        self.beats = 0
        self._greenlet = gevent.spawn(self._beat)

    def _beat(self) -> None:
        last = time.monotonic()
        while True:
            gevent.sleep(0.01)
            now = time.monotonic()
            self.longest = max(self.longest, now - last - 0.01)
            self.beats += 1
            last = now

    def stop(self) -> None:
        self._greenlet.kill()
