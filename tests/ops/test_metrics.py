"""Metrics in Prometheus' format, added up over workers that live, die and come again."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from nti.appserver.errors import ServiceUnavailable
from nti.appserver.ops.exposition import Family, added, lasting, text
from nti.appserver.ops.processes import identity, is_alive
from nti.appserver.ops.registry import Registry


def counter(value: float, **labels: str) -> Family:
    return {
        "name": "work_total",
        "kind": "counter",
        "doc": "Work done.",
        "labels": list(labels),
        "merge": "sum",
        "samples": [[list(labels.values()), value]],
    }


def gauge(value: float, merge: str = "sum") -> Family:
    return {**counter(value), "name": f"level_{merge}", "kind": "gauge", "merge": merge}


def histogram(counts: list[int], bounds: tuple[float, ...] = (0.1, 1.0)) -> Family:
    value = [list(bounds), counts, float(sum(counts))]
    return {**counter(0), "name": "wait_seconds", "kind": "histogram", "samples": [[[], value]]}


def parsed(families: list[Family]) -> dict[str, dict[tuple[str, str], float]]:
    """What Prometheus' own parser reads: sample name and labels to values."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text(families))
        for sample in family.samples
    }


def test_prometheus_reads_what_is_written() -> None:
    found = parsed([counter(3, path='a"b\\c\nd'), gauge(1.5), histogram([1, 2, 3])])
    assert found[("work_total", (("path", 'a"b\\c\nd'),))] == 3
    assert found[("level_sum", ())] == 1.5
    assert found[("wait_seconds_bucket", (("le", "0.1"),))] == 1
    assert found[("wait_seconds_bucket", (("le", "1"),))] == 3
    assert found[("wait_seconds_bucket", (("le", "+Inf"),))] == 6
    assert found[("wait_seconds_count", ())] == 6
    assert found[("wait_seconds_sum", ())] == 6


def test_workers_add_up() -> None:
    one = [counter(1), gauge(2), gauge(5, "max"), histogram([1, 0, 0])]
    two = [counter(10), gauge(20), gauge(3, "max"), histogram([0, 0, 7])]
    found = parsed(added([one, two]))
    assert found[("work_total", ())] == 11
    assert found[("level_sum", ())] == 22
    assert found[("level_max", ())] == 5
    assert found[("wait_seconds_count", ())] == 8


def test_labels_that_one_worker_alone_has_are_kept() -> None:
    found = parsed(added([[counter(1, kind="a")], [counter(2, kind="b")]]))
    assert found == {("work_total", (("kind", "a"),)): 1, ("work_total", (("kind", "b"),)): 2}


def test_buckets_that_changed_between_versions_lose_no_count() -> None:
    found = parsed(added([[histogram([1, 2, 3])], [histogram([1, 1], (0.5,))]]))
    assert found[("wait_seconds_count", ())] == 8
    assert found[("wait_seconds_sum", ())] == 8


@given(st.lists(st.lists(st.integers(0, 99), min_size=3, max_size=3), min_size=1, max_size=6))
def test_adding_does_not_depend_on_who_was_retired_first(counts: list[list[int]]) -> None:
    processes = [[histogram(each), counter(sum(each))] for each in counts]
    retired: list[Family] = []
    for process in processes:
        retired = added([retired, lasting(process)])
    assert retired == added(processes)


def test_adding_leaves_what_it_was_given() -> None:
    given_ = [counter(1)]
    added([given_, [counter(2)]])
    assert given_ == [counter(1)]


# -- the registry, with real processes that come and go


@pytest.fixture
def worker() -> Iterator[Any]:
    """Starts processes that live until they are told to end."""
    started: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        started.append(process)
        return process

    yield start
    for process in started:
        end(process)


def end(process: "subprocess.Popen[bytes]") -> None:
    assert process.stdin is not None
    process.stdin.close()
    process.kill()
    process.wait(20)


def record(pid: int, families: list[Family], master: int | None = None) -> dict[str, Any]:
    return {
        "worker": list(identity(pid)),
        "master": list(identity(os.getpid() if master is None else master)),
        "booted": 0.0,
        "families": families,
    }


def total(registry: Registry, name: str = "work_total") -> float:
    return parsed(registry.families())[(name, ())]


def joined(folder: Path) -> Registry:
    registry = Registry(folder / "run" / "ops")
    registry.join()
    return registry


def test_counters_of_the_dead_stay_and_their_gauges_go(tmp_path: Path, worker: Any) -> None:
    registry = joined(tmp_path)
    first, second = worker(), worker()
    registry.write(record(first.pid, [counter(5), gauge(1), histogram([1, 0, 0])]))
    registry.write(record(second.pid, [counter(7), gauge(1), histogram([0, 1, 0])]))
    assert total(registry) == 12
    assert total(registry, "level_sum") == 2
    end(first)
    for _ in range(3):
        assert total(registry) == 12
        assert total(registry, "level_sum") == 1
        assert total(registry, "wait_seconds_count") == 2
    assert [found["worker"][0] for found in registry.workers()] == [second.pid]


def test_an_end_between_retiring_and_removing_counts_nothing_twice(
    tmp_path: Path, worker: Any
) -> None:
    registry = joined(tmp_path)
    process = worker()
    registry.write(record(process.pid, [counter(5)]))
    left = next(registry.folder.glob("worker-*.json"))
    content = left.read_bytes()
    end(process)
    assert total(registry) == 5
    left.write_bytes(content)
    assert total(registry) == 5
    assert not left.exists()
    assert total(registry) == 5


def test_the_totals_last_while_a_gunicorn_lives(tmp_path: Path, worker: Any) -> None:
    registry = joined(tmp_path)
    process = worker()
    registry.write(record(process.pid, [counter(5)]))
    end(process)
    joined(tmp_path)  # the next worker of the same master
    assert total(registry) == 5
    joined(tmp_path)
    assert total(registry) == 5


def test_the_totals_begin_anew_with_a_new_gunicorn(tmp_path: Path, worker: Any) -> None:
    registry = joined(tmp_path)
    process, master = worker(), worker()
    registry.write(record(process.pid, [counter(5)], master.pid))
    end(process)
    end(master)
    assert joined(tmp_path).families() == []


def test_a_number_that_was_given_again_is_another_process(worker: Any) -> None:
    process = worker()
    pid, started = identity(process.pid)
    assert is_alive((pid, started))
    assert not is_alive((pid, started - 1))
    process.kill()
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert not is_alive((pid, started)), "a zombie has ended"


def test_a_broken_record_is_passed_over(tmp_path: Path, worker: Any) -> None:
    registry = joined(tmp_path)
    registry.write(record(worker().pid, [counter(5)]))
    (registry.folder / "worker-1-1.json").write_text('{"worker": [1')
    (registry.folder / "worker-2-1.json").write_text(json.dumps([]))
    assert total(registry) == 5


def test_a_lock_held_for_too_long_is_a_503(tmp_path: Path, monkeypatch: Any) -> None:
    from nti.appserver.ops import registry as module

    registry = joined(tmp_path)
    monkeypatch.setattr(module, "PATIENCE", 0.05)
    with registry._locked(), pytest.raises(ServiceUnavailable, match="locked"):
        Registry(registry.folder).families()
    assert registry.families() == []


def test_records_are_for_their_user_alone(tmp_path: Path, worker: Any) -> None:
    registry = joined(tmp_path)
    registry.write(record(worker().pid, []))
    assert registry.folder.stat().st_mode & 0o077 == 0
    assert all(path.stat().st_mode & 0o077 == 0 for path in registry.folder.iterdir())
