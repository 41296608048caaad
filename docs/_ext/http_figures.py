"""The directive `http-figures`: tables made from what benchmarks/http has measured.

Its argument is the table: `cost`, `ratio`, `rounds`, `least`, `proxied`, `memory`, `workers`
or `machine`.
"""

from typing import Any

from figures import RESULTS, Figures, FiguresDirective, Row
from sphinx.application import Sphinx

OURS, STOCK, BARE = "nti.appserver", "gunicorn gevent", "a bare loop"


def cost(figures: Figures) -> list[Row]:
    """CPU per request of every server that was asked."""
    kinds = list(figures["serving"]["hello, keep-alive, 64 connections"])
    rows = [["µs of CPU per request", OURS, *kinds]]
    for name, found in figures["serving"].items():
        ours = next(each["ours_us"] for each in found.values() if "ours_us" in each)
        rows.append([name, str(ours), *(_cell(found.get(kind), "theirs_us") for kind in kinds)])
    return rows


def ratio(figures: Figures) -> list[Row]:
    """Ratios to gunicorn's own worker, and how far they lay apart."""
    rows = [[f"ours / {STOCK}", "median", "lowest", "highest", "rounds"]]
    for name, found in figures["serving"].items():
        figure = found[STOCK]
        rows.append([name, *_spread(figure), str(figure["rounds"])])
    return rows


def rounds(figures: Figures) -> list[Row]:
    """How often each kind of request was measured, against each server."""
    kinds = list(figures["serving"]["hello, keep-alive, 64 connections"])
    rows = [["rounds", *kinds]]
    for name, found in figures["serving"].items():
        rows.append([name, *(_cell(found.get(kind), "rounds") for kind in kinds)])
    idle = figures["memory"]
    return [*rows, ["idle connections", *(_cell(idle.get(kind), "rounds") for kind in kinds)]]


def least(figures: Figures) -> list[Row]:
    """What sending takes without a server, for the kinds of requests where that is most."""
    rows = [["µs of CPU per request", BARE, OURS, STOCK, f"{BARE} / {STOCK}"]]
    for name, found in figures["serving"].items():
        if BARE in found:
            floor, theirs = found[BARE]["theirs_us"], found[STOCK]["theirs_us"]
            ours = found[BARE]["ours_us"]
            rows.append([name, str(floor), str(ours), str(theirs), f"{floor / theirs:.2f}"])
    return rows


def proxied(figures: Figures) -> list[Row]:
    """Server and nginx."""
    rows = [["server + nginx, µs per request", OURS, STOCK, "ratio"]]
    for name, found in figures["proxied"].items():
        if OURS in found:
            pairs = [f"{found[k]['server_us']} + {found[k]['nginx_us']}" for k in (OURS, STOCK)]
            rows.append([name, *pairs, str(found["ratio"]["ratio"])])
    return rows


def memory(figures: Figures) -> list[Row]:
    """Memory of idle connections."""
    rows = [["", "KiB for each idle connection"]]
    return rows + [[name, _cell(found, "kib")] for name, found in figures["memory"].items()]


def workers(figures: Figures) -> list[Row]:
    """What the worker with the fewest connections had, in the round where it had the fewest."""
    rows = [["smallest share of a worker, in all rounds", OURS, STOCK]]
    return rows + [
        [name, *(f"{found[kind]['lowest_percent']} %" for kind in (OURS, STOCK))]
        for name, found in figures["workers"].items()
    ]


def machine(figures: Figures) -> list[Row]:
    """Where it was measured, and the versions."""
    found = {**figures["machine"], **figures["versions"]}
    return [["", ""], *([name, str(value)] for name, value in found.items())]


TABLES = {
    made.__name__: made for made in (cost, ratio, rounds, least, proxied, memory, workers, machine)
}


def _cell(found: Figures | None, key: str) -> str:
    if found is None:
        return ""
    return str(found[key]) if key in found else "fails"


def _spread(figure: Figures) -> Row:
    return [f"{figure[key]:.2f}" for key in ("ratio", "ratio_lowest", "ratio_highest")]


class HTTPFigures(FiguresDirective):
    """One table."""

    results = RESULTS / "http.json"
    tables = TABLES


def setup(app: Sphinx) -> dict[str, Any]:
    """Sphinx calls this when it loads the extension."""
    app.add_directive("http-figures", HTTPFigures)
    return {"parallel_read_safe": True}
