"""Counters, gauges and histograms of one process."""

import itertools
from collections.abc import Iterator

import pytest

from nti.appserver import metrics
from nti.appserver.metrics import MAX_CHILDREN, Counter, Gauge, Histogram, instruments

_numbers = itertools.count()


@pytest.fixture
def name() -> Iterator[str]:
    """A name that no instrument has; what takes it is forgotten after the test."""
    made = f"test_settings_{next(_numbers)}_total"
    yield made
    for taken in [one for one in metrics._registry if one.startswith(made)]:
        del metrics._registry[taken]


def test_a_counter_grows(name: str) -> None:
    counter = Counter(name, "For this test.")
    counter.inc()
    counter.inc(2.5)
    assert counter.value == 3.5
    assert list(counter.samples()) == [((), counter)]


def test_labels_give_children_that_are_kept(name: str) -> None:
    counter = Counter(name, "For this test.", ["method", "status"])
    counter.labels("GET", "2xx").inc()
    counter.labels("GET", "2xx").inc()
    counter.labels("PUT", "4xx").inc()
    assert {values: child.value for values, child in counter.samples()} == {  # type: ignore[attr-defined]
        ("GET", "2xx"): 2,
        ("PUT", "4xx"): 1,
    }


def test_labels_are_as_many_as_were_named(name: str) -> None:
    counter = Counter(name, "For this test.", ["method"])
    with pytest.raises(ValueError, match=r"has the labels .* saw values"):
        counter.labels("GET", "2xx")


def test_children_are_bounded(name: str) -> None:
    """Label values may come from clients; memory may not."""
    counter = Counter(name, "For this test.", ["path"])
    for number in range(MAX_CHILDREN + 50):
        counter.labels(f"/{number}").inc()
    assert len(counter.children) == MAX_CHILDREN + 1
    assert counter.labels("other").value == 50


def test_a_gauge_goes_up_and_down_or_is_asked(name: str) -> None:
    gauge = Gauge(name, "For this test.")
    gauge.set(5)
    gauge.inc(2)
    gauge.dec()
    assert gauge.value == 6
    asked = Gauge(name + "_asked", "For this test.", function=lambda: 42)
    assert asked.value == 42


def test_a_histogram_counts_under_its_bounds(name: str) -> None:
    histogram = Histogram(name, "For this test.", buckets=(1, 5))
    for value in (0.5, 1, 3, 100):
        histogram.observe(value)
    assert histogram.counts == [2, 1, 1]
    assert histogram.sum == 104.5


def test_a_histograms_children_have_its_bounds(name: str) -> None:
    histogram = Histogram(name, "For this test.", ["kind"], buckets=(1, 5))
    histogram.labels("a").observe(3)
    assert histogram.labels("a").counts == [0, 1, 0]
    assert histogram.labels("b").counts == [0, 0, 0]


def test_a_name_is_taken_once(name: str) -> None:
    made = Gauge(name, "For this test.")
    with pytest.raises(ValueError, match="is defined twice"):
        Counter(name, "Again.")
    assert made in list(instruments())
    names = [one.name for one in instruments()]
    assert names == sorted(names)
