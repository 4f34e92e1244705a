"""Combinations of integers: all feasible points are in one, and bounds follow for the rest."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.sparse as sp

from pyomo_relu.presolve.choices import TooManyChoicesError, enumerate_choices
from pyomo_relu.programs import LinearProgram


def random_program(rng: np.random.Generator) -> LinearProgram:
    """Two continuous columns, two binaries, three of which one is 1, an integer."""
    a = np.round(rng.normal(size=(5, 8)), 1) * (rng.random((5, 8)) < 0.5)
    a[0] = [0, 0, 0, 0, 1, 1, 1, 0]
    low, high = -rng.uniform(0, 3, 5), rng.uniform(0, 3, 5)
    low[rng.random(5) < 0.5] = -np.inf
    low[0], high[0] = (1 if rng.random() < 0.5 else -np.inf), 1
    lower = np.array([-2.0, -2, 0, 0, 0, 0, 0, -1])
    upper = np.array([2.0, 2, 1, 1, 1, 1, 1, 2])
    whole = np.array([False] * 2 + [True] * 6)
    return LinearProgram(np.zeros(8), lower, upper, sp.csr_array(a), low, high, whole)


@pytest.mark.parametrize("seed", range(25))
def test_every_feasible_point_is_in_one(seed):
    rng = np.random.default_rng(seed)
    p = random_program(rng)
    lower, upper = enumerate_choices(p)
    whole = p.integer
    assert (lower[:, whole] == upper[:, whole]).all()
    assert len(np.unique(lower[:, whole], axis=0)) == len(lower)
    axes = [np.arange(p.lower[j], p.upper[j] + 1) for j in np.flatnonzero(whole)]
    met = 0
    for values in itertools.product(*axes):
        z = np.tile(np.concatenate([[0.0, 0.0], values]), (40, 1))
        z[:, :2] = rng.uniform(-2, 2, (40, 2))
        activity = z @ p.matrix.toarray().T
        inside = (activity >= p.row_lower) & (activity <= p.row_upper)
        for point in z[inside.all(axis=1)]:
            met += 1
            assert ((lower <= point) & (point <= upper)).all(axis=1).any()
    assert met or not len(lower) or seed


def test_a_pressure_follows_its_routing():
    a = np.array([[1.0, -0.8, 0.0], [0.0, -40.0, 1.0]])  # p - 0.8 z == 1.2, r <= 40 z
    p = LinearProgram(
        np.zeros(3), np.array([1.0, 0, 0]), np.array([2.5, 1, 50]), sp.csr_array(a),
        np.array([1.2, -np.inf]), np.array([1.2, 0.0]), np.array([False, True, False]),
    )  # fmt: skip
    lower, upper = enumerate_choices(p)
    assert lower == pytest.approx(np.array([[1.2, 0, 0], [2.0, 1, 0]]))
    assert upper == pytest.approx(np.array([[1.2, 0, 0], [2.0, 1, 40]]))
    with pytest.raises(TooManyChoicesError):
        enumerate_choices(p, most=1)
