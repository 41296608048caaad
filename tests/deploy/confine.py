"""`python confine.py UNIT COMMAND...`: run a command under the system call rules of a unit.

What systemd makes of SystemCallFilter=, SystemCallErrorNumber=EPERM and
RestrictAddressFamilies= of a service (systemd.exec(5)): an allow list that a later
line with `~` takes from. The groups are systemd's own, asked of systemd-analyze.
"""

import ctypes
import os
import socket
import subprocess
import sys
from pathlib import Path

ALLOW = 0x7FFF0000
REFUSE = 0x00050000 | 1  # SCMP_ACT_ERRNO(EPERM)
EQUAL = 4


class Comparison(ctypes.Structure):
    """libseccomp's scmp_arg_cmp."""

    _fields_ = [
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("value", ctypes.c_uint64),
        ("unused", ctypes.c_uint64),
    ]


def expanded(word: str) -> set[str]:
    """The system calls that a word of SystemCallFilter= stands for."""
    if not word.startswith("@"):
        return {word}
    command = ["systemd-analyze", "--no-pager", "syscall-filter", word]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")
    words = [line.strip() for line in lines[1:]]
    return set().union(*(expanded(w) for w in words if w and not w.startswith("#")))


def values(unit: Path, key: str) -> list[str]:
    lines = unit.read_text().splitlines()
    return [line.partition("=")[2] for line in lines if line.startswith(key + "=")]


def allowed(unit: Path) -> set[str]:
    """The system calls that the unit leaves to its service."""
    names = expanded("@default")
    for value in values(unit, "SystemCallFilter"):
        calls = set().union(*map(expanded, value.removeprefix("~").split()))
        names = names - calls if value.startswith("~") else names | calls
    return names


def confine(unit: Path) -> None:
    """Confine this process and all that it starts, for good."""
    library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    library.seccomp_init.restype = ctypes.c_void_p
    rules = ctypes.c_void_p(library.seccomp_init(REFUSE))
    for name in allowed(unit) - {"socket"}:
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number >= 0:
            assert library.seccomp_rule_add_array(rules, ALLOW, number, 0, None) == 0, name
    number = library.seccomp_syscall_resolve_name(b"socket")
    for family in " ".join(values(unit, "RestrictAddressFamilies")).split():
        wanted = Comparison(0, EQUAL, getattr(socket, family), 0)
        status = library.seccomp_rule_add_array(rules, ALLOW, number, 1, ctypes.byref(wanted))
        assert status == 0, family
    assert library.seccomp_load(rules) == 0


if __name__ == "__main__":
    confine(Path(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])
