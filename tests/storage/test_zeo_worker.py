"""Our client in a real worker: for applications that open ZEO by themselves, and over kills."""

import contextlib
import json
import os
import signal
from pathlib import Path

from nti.appserver.testing.patched import run
from nti.appserver.testing.process import wait_until
from nti.appserver.testing.zeo import ZEOServer
from tests.storage.sites import Site

#: An application that knows nothing of ours; it opens one storage in each of ZEO's ways.
OPENS_ITSELF = """
import json, time
import ZEO, ZODB, ZODB.config, zodburi
from ZODB.POSException import ConflictError

def count(database, attempts=100):
    # Begun before it has heard of what the one before it has just committed, it conflicts.
    for attempt in range(attempts):
        try:
            with database.transaction() as connection:
                connection.root()["count"] = connection.root().get("count", 0) + 1
            return
        except ConflictError:
            time.sleep(0.01)
    raise RuntimeError("conflicts without an end")

def main():
    host, port = {address!r}
    config = f"<zodb>\\n<zeoclient>\\nserver {{host}}:{{port}}\\n</zeoclient>\\n</zodb>\\n"
    factory, options = zodburi.resolve_uri(f"zeo://{{host}}:{{port}}")
    databases = [
        ZEO.DB((host, port)),
        ZODB.DB(ZEO.client((host, port))),
        ZODB.DB(factory(), **options),
        ZODB.config.databaseFromString(config),
    ]

    def tell(environ, start_response):
        kinds = []
        for database in databases:
            count(database)
            kind, thread = type(database.storage), type(database.storage._server)
            kinds.append([kind.__module__, thread.__module__])
        body = json.dumps(kinds).encode()
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]

    return tell
"""

OURS = ["nti.appserver.storage.zeo.client", "nti.appserver.storage.zeo.thread"]


def test_whoever_opens_zeo_in_a_worker_gets_our_client(zeo: ZEOServer, tmp_path: Path) -> None:
    source = OPENS_ITSELF.format(address=zeo.address)
    with Site(tmp_path, source=source, storage="none") as site:
        site.wait_until_serving()
        status, body = site.ask("GET")
        assert status == 200, body
        assert json.loads(body) == [OURS] * 4


def test_each_worker_has_a_cache_of_its_own_which_survives_its_kill(
    zeo: ZEOServer, tmp_path: Path
) -> None:
    """The next worker finds what the killed one knew, and not what has changed since."""
    caches = tmp_path / "var" / "cache"
    with Site(tmp_path, "-w", "2", storage=zeo.uri) as site:
        site.wait_until_serving()
        wait_until(lambda: len(list(caches.glob("*.zec"))) == 2, "a cache for each worker")
        assert [site.post() for _ in range(6)] == [1, 2, 3, 4, 5, 6]
        for pid in site.workers():
            os.kill(pid, signal.SIGKILL)
        # The two that come instead, as soon as they serve.
        numbers: list[int] = []

        def counted() -> bool:
            with contextlib.suppress(OSError):
                numbers.append(site.post())
            return len(numbers) >= 6

        wait_until(counted, "the new workers count")
        assert numbers == list(range(7, 7 + len(numbers)))
        assert len(list(caches.glob("*.zec"))) == 2, "the names are used again"
        assert "temporary file" not in site.output()


def test_what_a_killed_process_had_loaded_is_not_loaded_again(
    zeo: ZEOServer, tmp_path: Path
) -> None:
    """But for what was changed meanwhile."""
    head = """
        import os, sys
        from persistent.mapping import PersistentMapping
        from tests.storage.programs import opened
        database = opened(sys.argv[1], var=sys.argv[2])
        def loads():
            return database.storage._call("server_status")["loads"]
        def numbers():
            with database.transaction() as connection:
                return [each["n"] for each in connection.root()["all"]]
    """
    run(
        head
        + """
        with database.transaction() as connection:
            connection.root()["all"] = [PersistentMapping(n=n) for n in range(20)]
        database.cacheMinimize()
        assert numbers() == list(range(20))
        os._exit(0)  # nothing is closed or written at the end, as in a kill
        """,
        zeo.uri,
        str(tmp_path / "one"),
    )
    run(
        head
        + """
        with database.transaction() as connection:
            connection.root()["all"][7]["n"] = 70
        database.close()
        """,
        zeo.uri,
        str(tmp_path / "two"),
    )
    printed = run(
        head
        + """
        before = loads()
        assert numbers() == [70 if n == 7 else n for n in range(20)]
        print(loads() - before)
        database.close()
        """,
        zeo.uri,
        str(tmp_path / "one"),
    )
    assert printed == "1\n"
