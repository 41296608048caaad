"""How many connections the process may have open, given its limit of open files.

Runs once in a worker, before it serves.
"""

import resource

#: Descriptors kept for everything else: files, storages, other servers.
SPARE = 256


def room_for(connections: int) -> int:
    """As many of `connections` as there can be descriptors for, and at least one.

    The soft limit of this process is raised towards the hard one as far as that needs.
    """
    wanted = connections + SPARE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return connections
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    except (OSError, ValueError):
        allowed = soft
    return max(1, min(connections, allowed - SPARE))
