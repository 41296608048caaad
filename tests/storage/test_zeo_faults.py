"""The ZEO server killed or stopped, the network cut or slow, while clients of a site write.

Each request is answered within the bound, with 200 or 503; the site goes on by
itself afterwards; what was acknowledged is stored, once, and nothing else is.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from nti.appserver.testing.process import wait_until
from nti.appserver.testing.zeo import Proxy, ZEOServer
from tests.storage.sites import Site
from tests.storage.writers import APPLICATION, Write, Writers

#: Writes that must be acknowledged before a fault, and after it.
ENOUGH = 10

#: Seconds that a busy machine may add.
SLACK_SECONDS = 15

#: What is so within the context.
Fault = Callable[[ZEOServer, Proxy], AbstractContextManager[None]]


@contextmanager
def killed(server: ZEOServer, proxy: Proxy) -> Iterator[None]:
    server.kill()
    yield
    server.start()


@contextmanager
def stopped(server: ZEOServer, proxy: Proxy) -> Iterator[None]:
    os.kill(server.pid, signal.SIGSTOP)
    yield
    os.kill(server.pid, signal.SIGCONT)


@contextmanager
def cut(server: ZEOServer, proxy: Proxy) -> Iterator[None]:
    """Nothing passes, and no connection breaks; what was sent meanwhile arrives at its end."""
    proxy.cut.set()
    yield
    proxy.cut.clear()


@contextmanager
def slow(server: ZEOServer, proxy: Proxy) -> Iterator[None]:
    proxy.delay = 0.3
    yield
    proxy.delay = 0.0


@contextmanager
def explained(site: Site) -> Iterator[None]:
    """A failure shows where the workers are, and what they have logged."""
    try:
        yield
    except AssertionError:
        for pid in site.workers():
            os.kill(pid, signal.SIGURG)
        time.sleep(2)
        print(site.output())
        for path in site.cwd.glob("var/run/**/stacks-*.json"):
            print(path.read_text())
        raise


def run_with(
    fault: Fault, seconds: float, folder: Path, timeout: float, *, refuses: bool = True
) -> list[Write]:
    """Let a fault happen to a site of two workers; the writes that were answered since.

    It lasts for so long, and where the site `refuses` writes for it until it has refused one.
    """
    with ZEOServer(folder / "zeo") as server, Proxy(server.address) as proxy:
        settings = {"storage": proxy.uri, "storage_timeout": str(timeout)}
        deadline = 2 * timeout
        with Site(
            folder, "-w", "2", source=APPLICATION, request_deadline=str(deadline), **settings
        ) as site:
            site.wait_until_serving()
            with Writers(site) as writers, explained(site):
                wait_until(lambda: writers.acknowledged() >= ENOUGH, "the site serves")
                began = time.monotonic()
                with fault(server, proxy):
                    time.sleep(seconds)
                    if refuses:
                        wait_until(lambda: refused(writers.since(began)), "the site refuses")
                before = writers.acknowledged()
                wait_until(
                    lambda: writers.acknowledged() >= before + ENOUGH,
                    "the site goes on",
                    seconds=60,
                )
            writers.check()
            since = writers.since(began)
    longest = max(write.seconds for write in since)
    print(f"{len(since)} writes, {refused(since)} refused, the longest took {longest:.1f} s")
    # A call that waits for a mute server, and the attempts after it until the deadline.
    bound = deadline + 2 * timeout
    assert longest < bound + SLACK_SECONDS, [write for write in since if write.seconds == longest]
    return since


def refused(writes: list[Write]) -> int:
    return sum(write.status == 503 for write in writes)


@pytest.mark.parametrize("fault", [killed, stopped, cut])
def test_a_fault_costs_503_within_the_bound(tmp_path: Path, fault: Fault) -> None:
    assert refused(run_with(fault, 3, tmp_path, timeout=1))


def test_a_slow_network_costs_time_alone(tmp_path: Path) -> None:
    since = run_with(slow, 3, tmp_path, timeout=20, refuses=False)
    assert not [write for write in since if write.status != 200]


@pytest.mark.soak
@pytest.mark.parametrize("fault", [killed, stopped, cut])
def test_forty_seconds_with_the_default_timeout(tmp_path: Path, fault: Fault) -> None:
    assert refused(run_with(fault, 40, tmp_path, timeout=10))
