"""Bounds that row multipliers prove, against optima of linear programs."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.optimize import linprog

from pyomo_relu.programs import Certifier, LinearProgram, Rows


def test_any_multipliers_prove_a_bound_and_the_optimal_ones_the_optimum():
    rng = np.random.default_rng(2)
    for _ in range(40):
        m, n = 3, 5
        a, cost = rng.normal(size=(m, n)), rng.normal(size=n)
        low, high = -rng.random(n), rng.random(n)
        inside = low + rng.random(n) * (high - low)
        row_low, row_high = (
            a @ inside - 0.1,
            np.where(rng.random(m) < 0.5, np.inf, a @ inside),
        )
        found = linprog(
            cost,
            np.vstack([-a, a[np.isfinite(row_high)]]),
            np.concatenate([-row_low, row_high[np.isfinite(row_high)]]),
            bounds=list(zip(low, high)),
        )
        certifier = Certifier(
            LinearProgram(cost, low, high, sp.csr_array(a), row_low, row_high)
        )
        for _ in range(20):
            assert certifier.lower_bound(cost, rng.normal(size=m)) <= found.fun + 1e-9
        duals = -found.ineqlin.marginals[:m].copy()
        duals[np.isfinite(row_high)] += found.ineqlin.marginals[m:]
        assert certifier.lower_bound(cost, duals) == pytest.approx(found.fun, abs=1e-7)
    one, free = np.ones(1), np.array([np.inf])
    certifier = Certifier(
        LinearProgram(one, -free, free, sp.csr_array(one[None]), one, free)
    )
    assert certifier.lower_bound(one, np.array([0.5])) == -np.inf
    assert certifier.lower_bound(one, one) == pytest.approx(1.0)


def test_a_program_with_more_rows_keeps_what_rounding_may_break():
    one, none = np.ones(1), np.full(1, -np.inf)
    row = sp.csr_array(np.ones((1, 2)))
    program = LinearProgram(np.zeros(2), -np.ones(2), np.ones(2), row, one, one)
    more = program.with_rows(Rows(2.0 * row, none, 3.0 * one, 0.5 * one))
    assert more.matrix.toarray().tolist() == [[1.0, 1.0], [2.0, 2.0]]
    assert more.row_slack.tolist() == [0.0, 0.5]
    assert (more.row_lower.tolist(), more.row_upper.tolist()) == ([1, -np.inf], [1, 3])
    # -2 x - 2 y >= -3 by the new row, which rounding may break by its slack.
    cost = np.full(2, -2.0)
    assert Certifier(more).lower_bound(cost, [0.0, -1.0]) == pytest.approx(-3.0 - 0.505)
    assert Certifier(more).lower_bound(cost, [-2.0, 0.0]) == pytest.approx(-2.0)
    assert more.violation(np.array([0.5, 0.0])) == pytest.approx(0.5)
    assert program.row_slack is None and program.matrix.shape == (1, 2)
