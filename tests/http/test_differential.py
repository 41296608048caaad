"""The fast path accepts nothing that gunicorn's parser refuses, and makes the same of the rest."""

import random

import pytest

from tests.http.differential import (
    PROXY,
    STRANGER,
    Ours,
    cases,
    configuration,
    corpus,
    difference,
    early_difference,
    generated,
)


def test_gunicorn_corpus() -> None:
    folder = corpus()
    if folder is None:
        pytest.skip("gunicorn's source distribution cannot be had")
    found = cases(folder)
    assert len(found) > 100
    taken = 0
    for name, data, cfg in found:
        ours = Ours(cfg)
        for peer in (PROXY, STRANGER):
            taken += ours.judge(data, peer) is not None
            assert difference(ours, data, peer) == "", name
    assert taken > 20, "the fast path took next to nothing: the comparison means little"


@pytest.mark.parametrize("values", [{}, {"limit_request_fields": 3, "limit_request_line": 20}])
def test_generated(values: dict[str, int]) -> None:
    draw, cfg = random.Random(7), configuration(**values)
    ours, taken = Ours(cfg), 0
    for _ in range(10_000):
        data, peer = generated(draw), draw.choice((PROXY, STRANGER))
        taken += ours.judge(data, peer) is not None
        assert difference(ours, data, peer) == ""
        assert early_difference(cfg, data, draw.randrange(len(data) + 1), peer) == ""
    assert taken > 100
