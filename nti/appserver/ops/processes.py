"""Telling processes apart for longer than their numbers do, and what one of them uses.

Reads /proc, which never waits; on systems without it a process is its number
alone and its sizes are unknown (0).
"""

import os

#: A process: its number and when it started, in clock ticks since the machine did (0: unknown).
Identity = tuple[int, int]

_PAGE = os.sysconf("SC_PAGE_SIZE")


def identity(pid: int) -> Identity:
    """The process that has this number now."""
    return pid, _started(pid)


def is_alive(who: Identity) -> bool:
    """Whether that very process lives, and not a later one of the same number.

    A zombie has ended: it counts nothing any more.
    """
    pid, started = who
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    now = _started(pid)
    return now == started or 0 in (now, started)


def _started(pid: int) -> int:
    """Field 22 of /proc/PID/stat; the second field may hold spaces and brackets. -1: a zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stream:
            fields = stream.read().rpartition(b")")[2].split()
    except OSError:
        return 0
    return -1 if fields[0] in (b"Z", b"X") else int(fields[19])


def resident_bytes() -> int:
    """The memory of this process that is in RAM."""
    try:
        with open("/proc/self/statm", "rb") as stream:
            return int(stream.read().split()[1]) * _PAGE
    except OSError:
        return 0


def open_descriptors() -> int:
    """How many files and sockets this process has open."""
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError:
        return 0
