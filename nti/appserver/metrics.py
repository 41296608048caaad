"""Counters, gauges and histograms of one process, cheap enough for hot paths.

Only the instruments and their registry live here; rendering them for
Prometheus and adding up the workers is the work of `nti.appserver.ops`.

An instrument is updated from greenlets of one thread: an increment is a few
bytecodes with no switch between, so no lock is taken. A native thread may
update an instrument that no greenlet updates.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, TypeVar

LabelValues = tuple[str, ...]
Merge = Literal["sum", "max"]

#: Upper bounds in seconds that suit requests, commits and waits.
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

#: Distinct label values that one instrument keeps; more fall together as "other".
MAX_CHILDREN = 200

_I = TypeVar("_I", bound="Instrument")

_registry: dict[str, "Instrument"] = {}


def instruments() -> Iterator["Instrument"]:
    """Every instrument of this process, in the order of their names."""
    return iter([_registry[name] for name in sorted(_registry)])


class Instrument:
    """What all instruments share: a name, what it means, and labelled children.

    :param name: as Prometheus writes it, with the unit last.
    :param labels: the names of the labels; `labels()` then gives the children.
    :raises ValueError: a second instrument takes the same name.
    """

    kind = "untyped"

    def __init__(self, name: str, doc: str, labels: Sequence[str] = ()) -> None:
        self.name = name
        self.doc = doc
        self.label_names = tuple(labels)
        self.children: dict[LabelValues, Instrument] = {}
        if name in _registry:
            raise ValueError(f"metric {name!r} is defined twice")
        _registry[name] = self

    def samples(self) -> Iterator[tuple[LabelValues, "Instrument"]]:
        """Each labelled child, or the instrument itself where it has no labels."""
        if self.label_names:
            yield from list(self.children.items())
        else:
            yield (), self

    def _child(self, values: LabelValues, make: Callable[[], "Instrument"]) -> "Instrument":
        try:
            return self.children[values]
        except KeyError:
            if len(values) != len(self.label_names):
                raise ValueError(
                    f"{self.name} has the labels {self.label_names}, saw values {values}"
                ) from None
            if len(self.children) >= MAX_CHILDREN:
                values = ("other",) * len(values)
            return self.children.setdefault(values, make())


class Counter(Instrument):
    """A number that only grows while the process lives."""

    kind = "counter"

    def __init__(self, name: str, doc: str, labels: Sequence[str] = ()) -> None:
        super().__init__(name, doc, labels)
        self.value: float = 0

    def labels(self, *values: str) -> "Counter":
        """The child for these label values; keep it where the path is hot."""
        return self._child(values, lambda: _unregistered(Counter, self))  # type: ignore[return-value]

    def inc(self, amount: float = 1) -> None:
        """Add `amount`, >= 0."""
        self.value += amount


class Gauge(Instrument):
    """A number that goes up and down, or that a function tells when asked.

    :param function: asked for the value instead of keeping one.
    :param merge: what stands for all workers, their `sum` or their `max`.
    """

    kind = "gauge"

    def __init__(
        self,
        name: str,
        doc: str,
        labels: Sequence[str] = (),
        function: Callable[[], float] | None = None,
        merge: Merge = "sum",
    ) -> None:
        super().__init__(name, doc, labels)
        self._value: float = 0
        self.function = function
        self.merge = merge

    @property
    def value(self) -> float:
        return self._value if self.function is None else self.function()

    def labels(self, *values: str) -> "Gauge":
        """The child for these label values."""
        return self._child(values, lambda: _unregistered(Gauge, self))  # type: ignore[return-value]

    def set(self, value: float) -> None:
        self._value = value

    def inc(self, amount: float = 1) -> None:
        self._value += amount

    def dec(self, amount: float = 1) -> None:
        self._value -= amount


class Histogram(Instrument):
    """How often a measured value fell under each bound.

    :param buckets: upper bounds, ascending, in the unit that `name` ends with.
    """

    kind = "histogram"

    def __init__(
        self, name: str, doc: str, labels: Sequence[str] = (), buckets: Sequence[float] = SECONDS
    ) -> None:
        super().__init__(name, doc, labels)
        self._clear(buckets)

    def _clear(self, buckets: Sequence[float]) -> None:
        self.buckets = tuple(buckets)
        #: One count for each bound and one for what lies above all of them; not cumulative.
        self.counts = [0] * (len(self.buckets) + 1)
        self.sum: float = 0.0

    def labels(self, *values: str) -> "Histogram":
        """The child for these label values."""

        def make() -> Histogram:
            child = _unregistered(Histogram, self)
            child._clear(self.buckets)
            return child

        return self._child(values, make)  # type: ignore[return-value]

    def observe(self, value: float) -> None:
        """Count one measured value."""
        self.counts[bisect_left(self.buckets, value)] += 1
        self.sum += value


def _unregistered(cls: type[_I], parent: Instrument) -> _I:
    """A child: an instrument that is reached through its parent alone."""
    child = cls.__new__(cls)
    child.name, child.doc, child.label_names, child.children = parent.name, parent.doc, (), {}
    if isinstance(child, Counter):
        child.value = 0
    elif isinstance(child, Gauge):
        child._value, child.function = 0, None
    return child
