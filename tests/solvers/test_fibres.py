"""Vertices over cells and corners of hulls, against linear programs."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linprog

from pyomo_relu.solvers.global_search.extremes import lower_extremes
from pyomo_relu.solvers.global_search.fibres import (
    CellPoints,
    NotEnumeratedError,
    vertices_over,
)

SHAPES = {
    0: np.zeros((1, 0)),
    1: np.array([[-1.0], [0.7]]),
    2: np.array([[-1.0, 0.0], [0.2, -0.9], [1.0, 0.1], [0.4, 1.0], [-0.6, 0.8]]),
}


@pytest.mark.parametrize("d", [0, 1, 2])
@pytest.mark.parametrize("seed", range(12))
def test_the_least_of_any_function_is_at_a_vertex(d, seed):
    """``rows @ r + slope @ x <= right`` over a point, a segment and a pentagon."""
    rng = np.random.default_rng(seed)
    k, corners = int(rng.integers(0, 4)), SHAPES[d]
    more = int(rng.integers(1, 5))
    box = np.concatenate([np.eye(k), -np.eye(k)])
    rows = np.concatenate([box, np.round(rng.normal(size=(more, k)), 1)])
    slope = np.concatenate([np.zeros((2 * k, d)), np.round(rng.normal(size=(more, d)), 1)])
    right = np.concatenate([np.ones(2 * k), np.round(rng.uniform(-0.3, 1, more), 2)])
    if seed % 3 == 0 and k:  # an equality
        rows, slope = (np.concatenate([a, -a[-1:]]) for a in (rows, slope))
        right = np.append(right, -right[-1])
    points = np.zeros((len(corners), d + k))
    points[:, :d] = corners
    cells = CellPoints(points, right - corners @ slope.T, np.zeros(len(corners), dtype=int))
    found, cell = vertices_over(cells, rows, d + np.arange(k))
    assert len(cell) == len(found)
    everything = np.hstack([slope, rows])
    assert (found @ everything.T <= right + 1e-7).all()
    # A point of the cell is a mixture of its corners.
    m = len(corners)
    a_ub = np.hstack([slope @ corners.T, rows])
    a_eq = np.hstack([np.ones((1, m)), np.zeros((1, k))])
    bounds = [(0, 1)] * m + [(None, None)] * k
    for _ in range(6):
        c = rng.normal(size=d + k)
        cost = np.concatenate([corners @ c[:d], c[d:]])
        answer = linprog(cost, a_ub, right, a_eq, [1.0], bounds)
        assert (answer.status == 2) == (not len(found))
        if len(found):
            assert (found @ c).min() == pytest.approx(answer.fun, abs=1e-6)


def test_what_rounding_could_lose_is_refused():
    rows = np.array([[1.0, 1e-8], [1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    cells = CellPoints(np.zeros((1, 2)), np.ones((1, 5)), np.zeros(1, dtype=int))
    with pytest.raises(NotEnumeratedError):
        vertices_over(cells, rows, np.arange(2))


@pytest.mark.parametrize("a", [0, 1, 2, 3, 6])
@pytest.mark.parametrize("seed", range(6))
def test_the_corners_serve_all_prices(a, seed):
    """Any multipliers have their least at a corner; with rows that others determine."""
    rng = np.random.default_rng(seed)
    activity = rng.normal(size=(60, a)) if seed % 2 else rng.integers(0, 3, (60, a))
    if a > 1 and seed > 3:
        activity = np.column_stack([activity, activity @ rng.normal(size=a), np.ones(60)])
    cost = rng.normal(size=60)
    if seed == 2:
        cost = activity @ rng.normal(size=activity.shape[1])
    kept = lower_extremes(activity, cost)
    assert a not in (1, 2) or len(kept) < 40
    for _ in range(50):
        values = cost + activity @ rng.normal(size=activity.shape[1])
        assert values[kept].min() == pytest.approx(values.min(), abs=1e-9)
