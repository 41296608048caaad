"""Object ids, when a server starts anew and gives those out again that nobody has stored."""

from pathlib import Path

from nti.appserver.testing.patched import run

#: Both clients are given the same ids: `ours` by a server that is killed, `others` by the next.
TWO_SERVERS = """
    import sys
    from persistent.mapping import PersistentMapping
    from ZEO.Exceptions import ClientDisconnected
    from nti.appserver.testing.process import wait_until
    from nti.appserver.testing.zeo import ZEOServer
    from tests.storage.programs import opened
    def add(database, name):
        with database.transaction() as connection:
            root = connection.root()
            kept = list(root.values())  # in the connection's cache while others join them
            for number in range(20):
                root[f"{name}{number}"] = PersistentMapping(name=name)
    def is_back(database):
        try:
            database.storage.catch_up()  # or it would conflict with what the other has added
        except ClientDisconnected:
            return False
        return True
    with ZEOServer(sys.argv[1]) as server:
        ours = opened(server.uri)
        add(ours, "a")
        server.kill()
        server.start()
        others = opened(server.uri)
        add(others, "b")
        wait_until(lambda: is_back(ours), "the client is connected again")
        add(ours, "c")
        others.storage.catch_up()
        with others.transaction() as connection:
            print(*sorted(each["name"] for each in connection.root().values()), sep="")
        ours.close()
        others.close()
"""


def test_the_ids_of_a_server_that_is_gone_are_not_used(tmp_path: Path) -> None:
    printed = run(TWO_SERVERS, str(tmp_path), seconds=120)
    assert printed == "a" * 20 + "b" * 20 + "c" * 20 + "\n"
