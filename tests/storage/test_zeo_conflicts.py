"""Conflicts that are resolved in the client, while others go on committing the same objects."""

from pathlib import Path

import pytest

from nti.appserver.storage.zeo.client import VOTES
from nti.appserver.testing.patched import run
from nti.appserver.testing.zeo import ZEOServer

OPTIONS = "client-conflict-resolution true"

#: Another client commits while each of the first `meetings` conflicts is being resolved.
MEETINGS = """
    import sys, transaction
    from BTrees.Length import Length
    from ZODB.POSException import ConflictError
    from tests.storage.programs import opened
    uri, meetings = sys.argv[1], int(sys.argv[2])
    others = opened(uri)
    with others.transaction() as connection:
        connection.root()["length"] = Length()
    ours = opened(uri)
    def other_commits():
        with others.transaction() as connection:
            connection.root()["length"].change(1)
    resolve, met = ours.storage.tryToResolveConflict, []
    def resolving(*arguments):
        met.append(arguments)
        if len(met) <= meetings:
            other_commits()
        return resolve(*arguments)
    ours.storage.tryToResolveConflict = resolving
    manager = transaction.TransactionManager()
    connection = ours.open(manager)
    for attempt in (1, 2):
        manager.begin()
        connection.root()["length"].change(100)
        if attempt == 1:
            other_commits()
        try:
            manager.commit()
        except ConflictError:
            manager.abort()
        else:
            break
    connection.close()
    ours.close()
    others.close()
    late = opened(uri)
    with late.transaction() as connection:
        print(attempt, connection.root()["length"]() - len(met[:meetings]) - 1)
    late.close()
"""


@pytest.mark.parametrize(("meetings", "attempt"), [(0, 1), (VOTES - 2, 1), (VOTES, 2)])
def test_a_commit_that_meets_conflicts_is_made_or_refused_but_never_in_doubt(
    tmp_path: Path, meetings: int, attempt: int
) -> None:
    """Refused it is a conflict, so that the unit of work runs again."""
    with ZEOServer(tmp_path, OPTIONS) as server:
        printed = run(MEETINGS, server.uri, str(meetings))
    assert printed == f"{attempt} 100\n"
