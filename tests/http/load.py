"""Many requests through a proxy, and the proxies: what was not answered as it should be is told.

The proxies hide nothing: they try no request a second time.
"""

import random
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from nti.appserver.testing.process import ServerProcess, free_port, wait_until

from .client import Client

#: Browsers, so to say: each has one connection to the proxy and rests between two requests.
CLIENTS = 12
REST_SECONDS = 0.012

#: How long a server may take to start again on a busy machine, in seconds: requests wait for it.
PATIENCE = 120

NGINX = """
user root; daemon off; pid {folder}/pid; worker_processes 1;
events {{ worker_connections 512; }}
http {{
    {temporary} access_log off;
    upstream app {{ server {server} max_fails=0; keepalive 16; }}
    server {{
        listen 127.0.0.1:{port};
        keepalive_requests 1000000;
        location / {{
            proxy_pass http://app;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_next_upstream off;
            proxy_read_timeout 110s;
        }}
    }}
}}
"""

HAPROXY = """
defaults
    mode http
    retries 0
    timeout connect 20s
    timeout client 110s
    timeout server 110s
listen front
    bind 127.0.0.1:{port}
    http-reuse always
    server app {server} pool-purge-delay 60s
"""


@contextmanager
def front(kind: str, server: str, folder: Path) -> Iterator[int]:
    """nginx or HAProxy before `server`, with connections kept open; its port."""
    port = free_port()
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
    text = {"nginx": NGINX, "haproxy": HAPROXY}[kind]
    config = folder / f"{kind}.conf"
    config.write_text(text.format(folder=folder, server=server, port=port, temporary=temporary))
    command = {
        "nginx": ["nginx", "-e", "stderr", "-p", str(folder), "-c", str(config)],
        "haproxy": ["haproxy", "-db", "-f", str(config)],
    }[kind]

    def listens() -> bool:
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", port)).close()
            return True
        return False

    with ServerProcess(command, cwd=folder):
        wait_until(listens, f"{kind} listens")
        yield port


class Load:
    """Requests from `CLIENTS` clients within the context, half of them POSTs.

    `problems` tells of each that was not answered as it should be.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._stop = False
        self.done = 0
        self.posts = 0
        self.problems: list[str] = []
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(CLIENTS)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop = True
        for thread in self._threads:
            thread.join()

    def _run(self, number: int) -> None:
        draw = random.Random(number)
        while not self._stop:
            with suppress(OSError), Client(("127.0.0.1", self._port)) as client:
                client.socket.settimeout(PATIENCE)
                while self._ask(client, draw, b"%d:%d" % (number, self.done)) and not self._stop:
                    # Now and then a longer rest, so that connections of the proxy's grow old.
                    time.sleep(draw.random() * REST_SECONDS * draw.choice((1, 1, 1, 1, 1, 1, 1, 8)))

    def _ask(self, client: Client, draw: random.Random, text: bytes) -> bool:
        """One request; whether the connection is kept."""
        method = draw.choice(("GET", "POST"))
        body = text * draw.choice((1, 1, 1, 500)) if method == "POST" else b""
        try:
            answer = client.ask("/echo", method=method, body=body)
        except (OSError, AssertionError) as problem:
            self.problems.append(f"{method}: {problem!r}")
            return False
        if answer.status != 200 or answer.body != body:
            self.problems.append(f"{method}: {answer.status} {answer.body[:80]!r}")
            return False
        self.posts += method == "POST"
        self.done += 1
        return answer.headers.get("connection") != "close"
