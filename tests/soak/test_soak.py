"""Mixed traffic with a reload every ten seconds: no error at a client, nothing lost, nothing leaks.

SOAK_SECONDS says how long: 120 when not given; `make soak-hour` takes 3600. In
the last quarter nothing is reloaded, so that the workers can show a leak.
"""

import contextlib
import os
import signal
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from nti.appserver.testing.process import GunicornProcess, wait_until
from tests.soak import traffic

pytestmark = pytest.mark.soak

ROOT = Path(__file__).resolve().parents[2]
SECONDS = float(os.environ.get("SOAK_SECONDS", "120"))
RELOAD_EVERY = 10.0
WORKERS = 2
#: gunicorn, its workers, the ZEO server.
PROCESSES = 1 + WORKERS + 1
#: How long the last reload may take, on a machine that is busy with all this.
SETTLING_SECONDS = 120.0
#: Clients of each kind.
EACH = 3

#: So much of the log is shown when a run fails.
LOG_CHARACTERS = 20_000

MIB = 1024 * 1024


@dataclass(frozen=True)
class Sample:
    """The whole site at one moment: gunicorn, its workers, the ZEO server."""

    pids: frozenset[int]
    memory: int
    descriptors: int

    @property
    def processes(self) -> int:
        return len(self.pids)


def running_in(folder: Path) -> Iterator[psutil.Process]:
    """The processes whose working directory it is; each may end at any moment."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.cwd() == os.fspath(folder):
                yield process


def sample(folder: Path) -> Sample:
    """All processes that run in the site's folder."""
    found = []
    for process in running_in(folder):
        with contextlib.suppress(psutil.Error):
            found.append((process.pid, process.memory_info().rss, process.num_fds()))
    pids = frozenset(pid for pid, _, _ in found)
    return Sample(pids, sum(rss for _, rss, _ in found), sum(fds for _, _, fds in found))


def processes(folder: Path) -> str:
    """What runs in the site's folder."""
    found = []
    for process in running_in(folder):
        with contextlib.suppress(psutil.Error):
            age = time.time() - process.create_time()
            command = " ".join(process.cmdline())
            found.append(f"{process.pid} of {process.ppid()}, {age:.0f} s: {command}")
    return "\n".join(found)


@contextmanager
def explained(site: GunicornProcess, tally: traffic.Tally) -> Iterator[None]:
    """A failure comes with the end of the site's log, its processes and the clients' errors."""
    try:
        yield
    except AssertionError:
        print(site.output()[-LOG_CHARACTERS:], processes(site.cwd), sep="\n", file=sys.stderr)
        print(f"{len(tally.errors)} errors", *tally.errors[:3], sep="\n", file=sys.stderr)
        raise


@pytest.fixture
def site(tmp_path: Path) -> Iterator[GunicornProcess]:
    environ = {
        "PYTHONPATH": os.fspath(ROOT),
        "NTI_APPSERVER_APPLICATION": "tests.soak.site:site",
        "NTI_APPSERVER_NAMESPACES": "tests.soak.site:counting",
        "NTI_APPSERVER_ATTEMPTS": "20",
    }
    options = ("-w", str(WORKERS), "--graceful-timeout", "20")
    with GunicornProcess(
        "nti.appserver.gunicorn:app", *options, cwd=tmp_path, environ=environ
    ) as it:
        yield it.wait_until_serving()


def grown(samples: list[float]) -> float:
    """How much more there is in the last third than in the first: 1.0 is level."""
    third = max(1, len(samples) // 3)
    return statistics.median(samples[-third:]) / statistics.median(samples[:third])


def soak(site: GunicornProcess, seconds: float, reload: bool) -> list[Sample]:
    """Let time pass; a sample before each reload, or as often without."""
    samples = []
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        time.sleep(RELOAD_EVERY if reload else RELOAD_EVERY / 2)
        samples.append(sample(site.cwd))
        if reload:
            site.send_signal(signal.SIGHUP)
    return samples


def test_mixed_traffic_over_reloads(site: GunicornProcess) -> None:
    tally, stopping = traffic.Tally(), threading.Event()
    clients = traffic.start(site.port, tally, stopping, EACH)
    began = time.monotonic()
    try:
        reloaded = soak(site, SECONDS * 3 / 4, reload=True)
        with explained(site, tally):
            wait_until(
                lambda: has_replaced_its_workers(site, reloaded[-1]),
                "every worker that was replaced has ended",
                seconds=SETTLING_SECONDS,
                every=1,
            )
        steady = soak(site, SECONDS / 4, reload=False)
    finally:
        stopping.set()
        for client in clients:
            client.join(40)
    seconds = time.monotonic() - began
    report(tally, reloaded, steady, seconds)
    assert not tally.errors, f"{len(tally.errors)} errors, the first:\n{tally.errors[0]}"
    assert not any(client.is_alive() for client in clients), "a client hangs"
    for client in clients:
        kind = client.kind
        told, unknown = tally.acknowledged[kind], tally.unknown[kind]
        assert told > 0, f"{kind} did nothing"
        assert told <= traffic.counted(site.port, kind) <= told + unknown, kind
    # After each reload they begin anew, by polling.
    upgrading = [client.kind for client in clients if isinstance(client, traffic.UpgradingClient)]
    assert all(tally.upgrades[kind] > 1 for kind in upgrading), "a client kept polling"
    assert_level(reloaded[1:], steady)


def has_replaced_its_workers(site: GunicornProcess, before: Sample) -> bool:
    """Whether no worker of `before` is left, and as many new ones are there as there should be."""
    now = sample(site.cwd)
    return now.processes == PROCESSES and len(now.pids & before.pids) == PROCESSES - WORKERS


def assert_level(reloaded: list[Sample], steady: list[Sample]) -> None:
    """Neither memory nor descriptors nor processes grow, over reloads or without them.

    A reload that is under way has more processes: so what counts is what each has.
    """
    assert {each.processes for each in steady} == {PROCESSES}
    for samples in (reloaded, steady):
        assert grown([each.descriptors / each.processes for each in samples]) <= 1.15
        assert grown([each.memory / each.processes for each in samples]) <= 1.2


def report(
    tally: traffic.Tally, reloaded: list[Sample], steady: list[Sample], seconds: float
) -> None:
    """What happened, for the log of a long run."""
    out = sys.stderr
    print(f"\n{seconds:.0f} s, {len(reloaded)} reloads, {len(tally.errors)} errors", file=out)
    for kind in sorted({kind.partition("-")[0] for kind in tally.acknowledged}):
        done = sum(n for name, n in tally.acknowledged.items() if name.startswith(kind))
        again = sum(n for name, n in tally.reconnects.items() if name.startswith(kind))
        unknown = sum(n for name, n in tally.unknown.items() if name.startswith(kind))
        print(f"  {kind}: {done} acknowledged, {again} reconnects, {unknown} unknown", file=out)
    print(f"  {tally.upgrades.total()} upgrades", file=out)
    for name, samples in (("reloaded", reloaded), ("steady", steady)):
        for each in (samples[0], samples[-1]):
            print(
                f"  {name}: {each.processes} processes, {each.memory / MIB:.0f} MiB, "
                f"{each.descriptors} descriptors",
                file=out,
            )
