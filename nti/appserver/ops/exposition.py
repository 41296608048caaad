"""Instruments as plain data, adding up several processes, and Prometheus' text format.

Pure functions: nothing here waits, switches or reads a file. A `Family` is what
JSON can hold, so that processes can leave theirs for each other.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from nti.appserver.metrics import Counter, Gauge, Histogram, Instrument, instruments

#: One instrument: name, kind, doc, labels (their names), merge, samples. A sample is a pair of
#: label values and a number, or for a histogram [bounds, counts, sum].
Family = dict[str, Any]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def collect() -> list[Family]:
    """Every instrument of this process as it stands."""
    return [_family(instrument) for instrument in instruments()]


def _family(instrument: Instrument) -> Family:
    return {
        "name": instrument.name,
        "kind": instrument.kind,
        "doc": instrument.doc,
        "labels": list(instrument.label_names),
        "merge": instrument.merge if isinstance(instrument, Gauge) else "sum",
        "samples": [[list(values), _value(child)] for values, child in instrument.samples()],
    }


def _value(instrument: Instrument) -> Any:
    if isinstance(instrument, Histogram):
        return [list(instrument.buckets), list(instrument.counts), instrument.sum]
    assert isinstance(instrument, Counter | Gauge)
    return instrument.value


def added(processes: Iterable[list[Family]]) -> list[Family]:
    """The families of several processes as those of one, ordered by name.

    Counters and histograms add up. Gauges add up or give their maximum, as
    their `merge` says. A histogram whose bounds changed between two versions
    of the code keeps the bounds met last, and of the others only count and sum.
    """
    total: dict[str, Family] = {}
    for families in processes:
        for family in families:
            known = total.get(family["name"])
            if known is None or known["labels"] != family["labels"]:
                total[family["name"]] = {**family, "samples": _copied(family["samples"])}
            else:
                known["samples"] = _added_samples(known, family)
    return [total[name] for name in sorted(total)]


def lasting(families: Iterable[Family]) -> list[Family]:
    """What outlives its process: counters and histograms."""
    return [family for family in families if family["kind"] != "gauge"]


def _copied(samples: list[Any]) -> list[Any]:
    return [[values, value] for values, value in samples]


def _added_samples(known: Family, other: Family) -> list[Any]:
    found = {tuple(values): value for values, value in known["samples"]}
    for labels, value in other["samples"]:
        values = tuple(labels)
        if values not in found:
            found[values] = value
        elif known["kind"] == "histogram":
            found[values] = _added_histograms(found[values], value)
        elif known["merge"] == "max":
            found[values] = max(found[values], value)
        else:
            found[values] += value
    return [[list(values), value] for values, value in found.items()]


def _added_histograms(one: list[Any], other: list[Any]) -> list[Any]:
    bounds, counts, total = other
    if one[0] == bounds:
        counts = [a + b for a, b in zip(one[1], counts, strict=True)]
    else:
        counts = [*counts[:-1], counts[-1] + sum(one[1])]
    return [bounds, counts, total + one[2]]


def text(families: Iterable[Family]) -> str:
    """Prometheus' text format, version 0.0.4."""
    return "".join(line + "\n" for family in families for line in _lines(family))


def _lines(family: Family) -> Iterator[str]:
    name = family["name"]
    doc = family["doc"].replace("\\", "\\\\").replace("\n", "\\n")
    yield f"# HELP {name} {doc}"
    yield f"# TYPE {name} {family['kind']}"
    for values, value in family["samples"]:
        labels = list(zip(family["labels"], values, strict=True))
        if family["kind"] == "histogram":
            yield from _histogram_lines(name, labels, value)
        else:
            yield f"{name}{_braced(labels)} {_number(value)}"


def _histogram_lines(name: str, labels: list[tuple[str, str]], value: list[Any]) -> Iterator[str]:
    bounds, counts, total = value
    below = 0
    for bound, count in zip([*map(_number, bounds), "+Inf"], counts, strict=True):
        below += count
        yield f"{name}_bucket{_braced([*labels, ('le', bound)])} {below}"
    yield f"{name}_sum{_braced(labels)} {_number(total)}"
    yield f"{name}_count{_braced(labels)} {below}"


def _braced(labels: list[tuple[str, str]]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(float(value))
