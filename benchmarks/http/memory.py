"""Memory of idle connections: python -m benchmarks.http.memory [WORDS...]

Private memory of the whole process tree, before and while clients hold many
connections that have each had one request answered. The kernel's own memory
for a socket is not in it. With words, only the servers with one in their names.
"""

import resource
import socket
import ssl
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from typing import Any

from benchmarks.common import private_bytes
from benchmarks.http.plots import draw
from benchmarks.http.results import save
from benchmarks.http.servers import BARE, KINDS, OURS, STOCK, Server, installed
from nti.appserver.testing.process import temporary_folder

CONNECTIONS = 10_000

#: Connections that come at a time.
BATCH = 100
ROUNDS = 3

#: Others and TLS are measured once: it takes long, and rounds hardly differ.
OTHER_ROUNDS = 1
APP = "benchmarks.http.apps:app"
REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"

#: Idle connections must stay: for this long, in seconds.
KEPT = "600"
OPTIONS = {"gunicorn": ["--keep-alive", KEPT], "cheroot": ["--timeout", KEPT]}
OPTIONS["nti.appserver"] = OPTIONS["gunicorn"]

#: It takes 100 connections by default, and waits for them by select, which 1,024 descriptors end.
OPTIONS["waitress"] = [
    "--connection-limit=20000",
    "--asyncore-use-poll",
    f"--channel-timeout={KEPT}",
]


def certificate() -> tuple[str, str]:
    """A certificate for localhost and its key: their files."""
    folder = temporary_folder("benchmark-")
    cert, key = str(folder / "cert.pem"), str(folder / "key.pem")
    command = "openssl req -x509 -nodes -days 2 -newkey ec -pkeyopt ec_paramgen_curve:P-256"
    command += f" -subj /CN=localhost -keyout {key} -out {cert}"
    subprocess.run(command.split(), check=True, capture_output=True)
    return cert, key


def connect(address: tuple[str, int], context: ssl.SSLContext | None = None) -> socket.socket:
    """A connection that has sent its first request."""
    connected = socket.create_connection(address, 30)
    if context is not None:
        connected = context.wrap_socket(connected)
    connected.sendall(REQUEST)
    return connected


def answered(connected: socket.socket) -> socket.socket:
    """The connection, once its request has been answered."""
    answer = b""
    while not answer.endswith(b"hello"):
        data = connected.recv(4096)
        if not data:
            raise RuntimeError("the server closed a connection")
        answer += data
    return connected


def per_connection(kind: str, *, tls: bool) -> float:
    """Bytes that one idle connection takes."""
    options = list(OPTIONS.get(KINDS[kind].package, ()))
    context = None
    if tls:
        cert, key = certificate()
        options += ["--certfile", cert, "--keyfile", key]
        context = ssl.create_default_context(cafile=cert)
        context.check_hostname = False
    with ExitStack() as stack:
        server = stack.enter_context(Server(kind, APP, *options, tls=tls))
        host, port = server.bind.split(":")
        for _ in range(BATCH):
            answered(connect((host, int(port)), context)).close()
        time.sleep(1)
        before = private_bytes(server.pid)
        for _ in range(CONNECTIONS // BATCH):
            batch = [connect((host, int(port)), context) for _ in range(BATCH)]
            for connected in batch:
                stack.enter_context(answered(connected))
        time.sleep(1)
        return (private_bytes(server.pid) - before) / CONNECTIONS


def measure(kind: str, *, tls: bool = False) -> dict[str, Any]:
    """KiB for each connection, or what went wrong."""
    count = ROUNDS if kind in (OURS, STOCK) and not tls else OTHER_ROUNDS
    try:
        rounds = [per_connection(kind, tls=tls) / 1024 for _ in range(count)]
    except (OSError, RuntimeError) as problem:
        if kind == OURS:
            raise
        return {"failed": str(problem)}
    return {"kib": round(statistics.median(rounds), 2), "rounds": count}


def main() -> None:
    """Measure, print and write."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    words = sys.argv[1:]
    cases = [(kind, False) for kind in KINDS if kind != BARE] + [(OURS, True), (STOCK, True)]
    for kind, tls in cases:
        name = f"{kind}, TLS" if tls else kind
        if installed(kind) and (not words or any(word in name for word in words)):
            found = measure(kind, tls=tls)
            save("memory", {name: found})
            print(name, found, flush=True)
    draw()


if __name__ == "__main__":
    main()
