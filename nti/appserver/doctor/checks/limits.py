"""Limits that do not go together: descriptors, backlogs, connections, space."""

import os
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path

from nti.appserver.doctor.finding import Finding, fault, warning
from nti.appserver.doctor.subject import Subject
from nti.appserver.errors import AppServerError
from nti.appserver.http.limits import SPARE
from nti.appserver.ops.registry import Registry, folder_for

#: Requests in flight for each database connection before one has to wait for another too long.
REQUESTS_PER_LEASE = 10

#: RelStorage keeps a connection to load and one to store.
SERVER_CONNECTIONS_PER_LEASE = 2

#: The part of a disk that should be free.
FREE = 0.05

SOMAXCONN = Path("/proc/sys/net/core/somaxconn")


def descriptors(subject: Subject) -> Iterator[Finding]:
    """A worker may open as many files as it may have connections, and those it needs besides."""
    connections = subject.settings.connections
    whose, limit = _limit(subject)
    if limit != resource.RLIM_INFINITY and limit < connections + SPARE:
        room = max(1, limit - SPARE)
        yield warning(
            "descriptors",
            f"{whose} may open {limit} files: {room} connections at a time, where the setting "
            f"connections asks for {connections}",
            "readers past it wait until others leave, and those with idle pages are many",
            f"LimitNOFILE={_rounded(connections + SPARE)} in the systemd unit (`ulimit -Hn` "
            f"elsewhere), or connections = {room}",
        )


def _limit(subject: Subject) -> tuple[str, int]:
    """Whose limit is known, and the hard one: a worker's where one runs."""
    try:
        for record in Registry(folder_for(subject.settings)).workers():
            pid = int(record["worker"][0])
            return f"worker {pid}", resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]
    except (OSError, AppServerError):
        pass  # it does not run, or is another user's
    return "a process started here", resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def _rounded(number: int) -> int:
    """The next power of two."""
    return 1 << (number - 1).bit_length()


def backlog(subject: Subject) -> Iterator[Finding]:
    """The kernel lets as many connections wait as gunicorn asks for."""
    asked = subject.loaded.gunicorn.get("backlog", 0)
    try:
        allowed = int(SOMAXCONN.read_text())
    except OSError:
        return
    if asked > allowed:
        yield warning(
            "backlog",
            f"gunicorn's backlog is {asked}, net.core.somaxconn {allowed}",
            "in a burst, and while workers are replaced, clients are refused that could wait",
            f"sysctl -w net.core.somaxconn={asked}, and the same in /etc/sysctl.d/",
        )


def leases(subject: Subject) -> Iterator[Finding]:
    """Requests do not outnumber database connections by far; the database has enough."""
    gunicorn, settings = subject.loaded.gunicorn, subject.settings
    requests = gunicorn.get("worker_connections", 0)
    if requests > REQUESTS_PER_LEASE * settings.connection_limit:
        yield warning(
            "connection_limit",
            f"worker_connections is {requests}, connection_limit {settings.connection_limit}",
            f"a request that waits {settings.connection_wait:g} s for a database connection is "
            "answered with 503",
            f"connection_limit = {-(-requests // REQUESTS_PER_LEASE)}, or fewer worker_connections",
        )
    allowed = subject.loaded.storages.get("max_connections", 0)
    workers = gunicorn.get("workers", 1)
    needed = workers * settings.connection_limit * SERVER_CONNECTIONS_PER_LEASE
    if 0 < allowed < needed:
        fitting = max(1, allowed // (workers * SERVER_CONNECTIONS_PER_LEASE))
        yield warning(
            "max_connections",
            f"PostgreSQL lets {allowed} connections in; {workers} workers with a "
            f"connection_limit of {settings.connection_limit} may open {needed}",
            "under load units of work fail, as the server refuses connections",
            f"connection_limit = {fitting}, or max_connections = {needed} in postgresql.conf",
        )


def space(subject: Subject) -> Iterator[Finding]:
    """There is room for data."""
    folder = Path(subject.settings.var).absolute()
    while not folder.exists():
        folder = folder.parent
    usage = shutil.disk_usage(folder)
    files = os.statvfs(folder)
    if usage.free < FREE * usage.total:
        yield warning(
            str(folder),
            f"{usage.free / usage.total:.1%} of the disk is free ({usage.free >> 20} MiB)",
            "when it is full, nothing can be stored: every write is answered with an error",
            "make room, `nti-appserver pack`, or move var to a larger disk",
        )
    if files.f_files and files.f_favail < FREE * files.f_files:
        yield fault(
            str(folder),
            f"{files.f_favail} of {files.f_files} inodes are free",
            "without one no file can be made, whatever room there is",
            "remove small files, or make a file system with more inodes",
        )
