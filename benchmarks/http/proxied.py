"""CPU per request behind nginx, server and nginx together: python -m benchmarks.http.proxied

Over TCP and over a unix socket, each with connections that are kept and
without; ours and gunicorn's own gevent worker in alternating rounds. Needs wrk
and nginx.
"""

import statistics
from contextlib import ExitStack
from typing import Any

from benchmarks.common import load, per_request, summary
from benchmarks.http.plots import draw
from benchmarks.http.results import save
from benchmarks.http.servers import OURS, STOCK, Server, answers
from nti.appserver.testing.process import ServerProcess, free_port, temporary_folder, wait_until

ROUNDS = 7
SECONDS = 1
CONNECTIONS = 64
APP = "benchmarks.http.apps:app"

CONF = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    keepalive_requests 1000000;
    upstream application {{
        server {address};
        {keepalive}
    }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://application;
            {protocol}
            proxy_set_header Host $host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme;
        }}
    }}
}}
"""
KEPT = (
    "keepalive 64; keepalive_requests 1000000;",
    'proxy_http_version 1.1; proxy_set_header Connection "";',
)

#: How nginx reaches the server: the kind of socket, and whether connections are kept.
WAYS = {
    "TCP, no keep-alive": ("tcp", False),
    "TCP, keep-alive": ("tcp", True),
    "unix socket, no keep-alive": ("unix", False),
    "unix socket, keep-alive": ("unix", True),
}
FIRST, *_, LAST = WAYS


class Site:
    """A server, and nginx before it; a context manager."""

    def __init__(self, kind: str, socket: str, *, kept: bool) -> None:
        folder = temporary_folder("benchmark-")
        folder.chmod(0o755)  # nginx's worker may be another user, and must reach the socket
        bind = f"unix:{folder}/server.sock" if socket == "unix" else None
        self.server = Server(kind, APP, "--keep-alive=75", bind=bind)
        port = free_port()
        keepalive, protocol = KEPT if kept else ("", "")
        conf = folder / "nginx.conf"
        conf.write_text(
            CONF.format(
                folder=folder,
                address=self.server.bind,
                keepalive=keepalive,
                protocol=protocol,
                port=port,
            ),
            "utf-8",
        )
        command = ["nginx", "-e", "stderr", "-p", str(folder), "-c", str(conf)]
        self.nginx = ServerProcess(command, cwd=folder)
        self.url = f"http://127.0.0.1:{port}/"
        self._stack = ExitStack()

    def __enter__(self) -> "Site":
        self._stack.enter_context(self.server)
        self._stack.enter_context(self.nginx)
        wait_until(lambda: answers(self.url), "nginx answers")
        return self

    def __exit__(self, *exception: Any) -> None:
        self._stack.close()

    def round(self) -> tuple[float, float]:
        """CPU seconds per request of the server and of nginx."""
        server, nginx = per_request(
            [self.server.pid, self.nginx.pid], lambda: load(self.url, CONNECTIONS, SECONDS)
        )
        return server, nginx


def median_us(values: list[float]) -> float:
    """A median of seconds, in microseconds."""
    return round(statistics.median(values) * 1e6, 1)


def main() -> None:
    """Measure, print and write."""
    with ExitStack() as stack:
        sites = {
            (kind, way): stack.enter_context(Site(kind, socket, kept=kept))
            for kind in (OURS, STOCK)
            for way, (socket, kept) in WAYS.items()
        }
        rounds: dict[tuple[str, str], list[tuple[float, float]]] = {key: [] for key in sites}
        for number in range(ROUNDS):
            for key in list(sites)[:: 1 if number % 2 else -1]:
                rounds[key].append(sites[key].round())
    both = {key: [sum(pair) for pair in pairs] for key, pairs in rounds.items()}
    found: dict[str, Any] = {
        way: {
            kind: {
                "server_us": median_us([server for server, _ in rounds[kind, way]]),
                "nginx_us": median_us([nginx for _, nginx in rounds[kind, way]]),
            }
            for kind in (OURS, STOCK)
        }
        | {"ratio": summary(both[OURS, way], both[STOCK, way])}
        for way in WAYS
    }
    found["last of ours against first of theirs"] = summary(both[OURS, LAST], both[STOCK, FIRST])
    found["last of ours against first of ours"] = summary(both[OURS, LAST], both[OURS, FIRST])
    for name, figures in found.items():
        print(name, figures, flush=True)
    save("proxied", found)
    draw()


if __name__ == "__main__":
    main()
