"""Places in sorted rows, extremes of stretches, and the nodes that ask for them."""

from __future__ import annotations

import numpy as np
import pytest

from pyomo_relu.network import PiecewiseLinear, nodes
from pyomo_relu.network.search import Extremes, SortedRows
from tests.harness.random_networks import random_pieces


@pytest.mark.parametrize("k", [0, 1, 2, 7, 8, 33])
def test_places(k):
    rng = np.random.default_rng(k)
    rows = np.sort(rng.integers(0, 20, (3, k)), axis=1).astype(float)
    if k > 2:
        rows[1, -2:] = np.nan
    x = np.vstack([rng.integers(-1, 22, (40, 3)), [[np.inf] * 3, [-np.inf] * 3]])
    found = SortedRows(rows)
    assert (found.count_below(x) == (rows < x[:, :, None]).sum(axis=2)).all()
    assert (found.count_to(x) == (rows <= x[:, :, None]).sum(axis=2)).all()


@pytest.mark.parametrize("k", [0, 1, 5, 8, 21])
def test_extremes(k):
    rng = np.random.default_rng(k)
    least, greatest = rng.normal(size=(2, 3, k))
    first, stop = rng.integers(0, k + 1, (2, 200, 3))
    low, high = Extremes(least, greatest).over(first, stop)
    for row, unit in np.ndindex(first.shape):
        own = slice(first[row, unit], stop[row, unit])
        assert low[row, unit] == least[unit, own].min(initial=np.inf)
        assert high[row, unit] == greatest[unit, own].max(initial=-np.inf)


@pytest.mark.parametrize("name", ["pwl_many", "pwl_jump"])
def test_nodes_of_many_pieces_say_what_a_look_at_each_piece_says(monkeypatch, name):
    rng = np.random.default_rng(3)
    pieces = random_pieces(rng, name, 5)
    lower = rng.uniform(-2.0, 2.0, (50, 5))
    lower[:9] = pieces[1][:, [0]].T
    upper = lower + rng.exponential(0.5, lower.shape)
    upper[5:12] = pieces[1][:, [-1]].T
    lower = np.minimum(lower, upper)

    def said(few: int) -> list[np.ndarray]:
        monkeypatch.setattr(nodes, "FEW", few)
        node = PiecewiseLinear("unit", (5,), 0, *pieces)
        low, high = node.range(lower, upper)
        return [node(lower), node.piece(upper), low, high, *node.slope_range(lower, upper)]

    for own, other in zip(said(1), said(1000)):
        assert (own == other).all()
