"""A gunicorn to measure, and clients that keep it busy. Runs in the process that measures."""

import contextlib
import os
import socket
import sys
import threading
import time
from pathlib import Path
from types import TracebackType

import psutil

from nti.appserver.testing.process import WORKER_CLASS, GunicornProcess, temporary_folder

STOCK = "gevent"


class Served:
    """One application under one worker class, on a database of its own.

    :param app: a factory of `benchmarks.transactions.apps`; empty: its `counter`, with all
        of our middleware and the default storage.
    """

    def __init__(self, app: str, worker: str = WORKER_CLASS, *options: str) -> None:
        folder = temporary_folder("benchmark-")
        root = Path(__file__).parents[2]
        self.process = GunicornProcess(
            f"benchmarks.transactions.apps:{app}()" if app else "nti.appserver.gunicorn:app",
            "--keep-alive=30",
            "--worker-connections=1000",
            *options,
            worker=worker,
            cwd=folder,
            environ={
                "BENCHMARK_DATA": str(folder / "data.fs"),
                "NTI_APPSERVER_APPLICATION": "benchmarks.transactions.apps:counter",
                "PYTHONPATH": str(root),
                "PYTHONWARNINGS": "ignore",
            },
        )

    def __enter__(self) -> "Served":
        self.process.start()
        prefer(self.process.pid)
        self.process.wait_until_serving(60)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.process.stop()

    @property
    def port(self) -> int:
        return self.process.port

    def cpu(self) -> float:
        """CPU seconds that the whole process tree has used."""
        top = psutil.Process(self.process.pid)
        times = [each.cpu_times() for each in [top, *top.children(recursive=True)]]
        return sum(each.user + each.system for each in times)


class Load:
    """What one round of clients saw.

    :ivar good: answers 200.
    :ivar bad: all others.
    """

    def __init__(self) -> None:
        self.good = 0
        self.bad = 0
        self.seconds = 0.0
        self.cpu = 0.0

    @property
    def cpu_us(self) -> float:
        """CPU per request, in microseconds."""
        return self.cpu / (self.good + self.bad) * 1e6

    @property
    def rate(self) -> float:
        """Good answers a second."""
        return self.good / self.seconds


def _client(port: int, requests: list[bytes], load: Load, lock: threading.Lock) -> None:
    good = bad = 0
    with socket.create_connection(("127.0.0.1", port), 60) as connected:
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for request in requests:
            connected.sendall(request)
            answer = b""
            while b"\r\n\r\n" not in answer:
                answer += connected.recv(65536)
            head, _, body = answer.partition(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
            while len(body) < length:
                body += connected.recv(65536)
            if head.split(b" ", 2)[1] == b"200":
                good += 1
            else:
                bad += 1
            if b"connection: close" in head.lower():
                connected.close()
                break
    with lock:
        load.good += good
        load.bad += bad


def drive(served: Served, paths: list[list[str]], method: str = "GET") -> Load:
    """Send each client's requests one after another, the clients at the same time."""
    load, lock = Load(), threading.Lock()
    requests = [
        [f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode() for path in each]
        for each in paths
    ]
    threads = [
        threading.Thread(target=_client, args=(served.port, each, load, lock)) for each in requests
    ]
    cpu, began = served.cpu(), time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    load.seconds = time.perf_counter() - began
    load.cpu = served.cpu() - cpu
    return load


def prefer(pid: int) -> None:
    """Give a process's session the processors before others, where that is allowed.

    On a machine that does other things as well, a rate says how much of it was left.
    """
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/autogroup").write_text("-20")


def environment() -> dict[str, str]:
    """Where it was measured."""
    return {"python": sys.version.split()[0], "cores": str(os.cpu_count())}
