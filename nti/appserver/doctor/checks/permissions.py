"""Who may read and write what belongs to the site: var, its sockets, its keys."""

import os
import stat
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

from nti.appserver.doctor.finding import Finding, fault, warning
from nti.appserver.doctor.subject import Subject

#: What others than the owner may do.
OTHERS = 0o077
WRITE_OTHERS = 0o022


def folders(subject: Subject) -> Iterator[Finding]:
    """var and the folders of sockets are the site's own."""
    var = Path(subject.settings.var)
    inner = [subject.runtime / name for name in ("ops", "bus", "handover")]
    for folder in dict.fromkeys((var, subject.runtime, *inner)):
        try:
            found = folder.stat()
        except FileNotFoundError:
            continue
        except PermissionError as problem:
            yield fault(
                str(folder),
                f"it cannot be looked at: {problem.strerror}",
                "this is not the site's user, or another user has made the folder",
                "run the doctor as the site's user; else chown the folder to it",
            )
            continue
        yield from _of(folder, found, private=folder == var or folder in inner)


def _of(folder: Path, found: os.stat_result, *, private: bool) -> Iterator[Finding]:
    mode = stat.S_IMODE(found.st_mode)
    if mode & WRITE_OTHERS:
        yield fault(
            str(folder),
            f"its mode is {mode:04o}: others may write in it",
            "whoever can put a socket or a file there can pass for a worker, and read requests",
            f"chmod 0700 {folder}",
        )
    elif private and mode & OTHERS:
        yield warning(
            str(folder),
            f"its mode is {mode:04o}: others may look into it",
            "the database, sign-in secrets and stacks are in it",
            f"chmod 0700 {folder}",
        )
    if found.st_uid != os.geteuid():
        yield warning(
            str(folder),
            f"it belongs to user {found.st_uid}, and this process to {os.geteuid()}",
            "workers of this user could not write there",
            f"run as its user, or chown -R {os.geteuid()} {folder}",
        )


def sockets(subject: Subject) -> Iterator[Finding]:
    """A unix socket lets in the front, and not everyone."""
    umask = subject.loaded.gunicorn.get("umask", 0)
    for address in subject.loaded.gunicorn.get("bind", ()):
        if not isinstance(address, str):
            continue
        path = Path(address)
        exists = path.is_socket()
        mode = stat.S_IMODE(path.stat().st_mode) if exists else 0o777 & ~umask
        if mode & 0o002:
            yield fault(
                address,
                f"its mode {'is' if exists else 'will be'} {mode:04o}: everyone may connect",
                "any user of the machine can send requests as the trusted front does, with the "
                "client's address of their choice",
                "umask = 0o007 in gunicorn's configuration; with systemd's socket SocketMode=0660",
            )


def trust(subject: Subject) -> Iterator[Finding]:
    """Not everyone who can connect is believed when naming the client."""
    believed = subject.loaded.gunicorn.get("forwarded_allow_ips", ())
    for address in subject.loaded.gunicorn.get("bind", ()):
        if "*" in believed and not isinstance(address, str) and not _is_loopback(address[0]):
            yield warning(
                "forwarded_allow_ips",
                f"it is *, and gunicorn listens on {address[0]}:{address[1]}",
                "whoever reaches that port can pass for any client, also for one that /_ops/ is "
                "open to",
                "forwarded_allow_ips = the proxies' own addresses, or bind = '127.0.0.1:…'",
            )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def keys(subject: Subject) -> Iterator[Finding]:
    """A private key is read by its owner alone."""
    key = subject.loaded.gunicorn.get("keyfile")
    if not key:
        return
    try:
        mode = stat.S_IMODE(os.stat(key).st_mode)
    except OSError as problem:
        yield fault(key, str(problem.strerror), "gunicorn cannot serve TLS", "mend keyfile")
        return
    if mode & OTHERS & ~0o040:
        yield fault(
            key,
            f"the key's mode is {mode:04o}",
            "other users can read it and pass for the site",
            f"chmod 0600 {key}",
        )
