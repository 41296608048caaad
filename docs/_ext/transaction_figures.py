"""The directive `transaction-figures`: tables made from what benchmarks/transactions has measured.

Its argument is the table: `stacks`, `own` or `meeting`.
"""

from typing import Any

from figures import RESULTS, Figures, FiguresDirective, Row
from sphinx.application import Sphinx


def stacks(figures: Figures) -> list[Row]:
    """Ours beside the usual packages."""
    rows = [["", "ours", "usual", "ours / usual", "lowest, highest"]]
    reading = figures["reading"]
    cpu = reading["cpu_us"]
    rows.append(["CPU per request that reads, µs", str(cpu["ours"]), str(cpu["usual"])])
    rows[-1] += _spread(reading)
    for name, key in (("write", "writing"), ("increment one counter", "contending")):
        found = figures[key]
        rate, cpu = found["commits_per_second"], found["cpu_us_per_request"]
        rows.append([f"commits a second that {name}", str(rate["ours"]), str(rate["usual"])])
        rows[-1] += _spread(found)
        rows.append([f"CPU per request to {name}, µs", str(cpu["ours"]), str(cpu["usual"])])
        rows[-1] += [f"{cpu['ours'] / cpu['usual']:.2f}", ""]
        rows.append(["answered with an error", *_both(found["refused"]), "", ""])
    return rows


def own(figures: Figures) -> list[Row]:
    """What a unit of work adds to a view on our worker."""
    found = figures["reading"]
    cpu = found["cpu_us"]
    touching_nothing = (
        cpu["bare, no object"],
        cpu["no object"],
        found["own_cost_without_an_object_us"],
    )
    reading_one = (cpu["bare"], cpu["ours"], found["own_cost_us"])
    return [
        ["µs of CPU per request of a Pyramid view", "bare", "in a unit of work", "which adds"],
        ["that touches nothing", *map(str, touching_nothing)],
        ["that reads one object", *map(str, reading_one)],
    ]


def meeting(figures: Figures) -> list[Row]:
    """Visitors of several workers who change one object."""
    rows = [["about 300 requests that count", "served", "refused", "a second"]]
    for name, found in figures["meeting"].items():
        rows.append([name, *(str(found[key]) for key in ("served", "refused", "per_second"))])
    return rows


TABLES = {made.__name__: made for made in (stacks, own, meeting)}


def _both(found: Figures) -> Row:
    return [str(found[name]) for name in ("ours", "usual")]


def _spread(found: Figures) -> Row:
    lowest, highest = found["ratio_lowest"], found["ratio_highest"]
    return [str(found["ratio_to_usual"]), f"{lowest}, {highest}"]


class TransactionFigures(FiguresDirective):
    """One table."""

    results = RESULTS / "transactions.json"
    tables = TABLES


def setup(app: Sphinx) -> dict[str, Any]:
    """Sphinx calls this when it loads the extension."""
    app.add_directive("transaction-figures", TransactionFigures)
    return {"parallel_read_safe": True}
