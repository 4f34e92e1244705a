"""Bounds that row multipliers prove, against optima of linear programs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.optimize import linprog

from pyomo_relu.programs import Certifier, LinearProgram, Rows
from pyomo_relu.programs.highs import HighsModel


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


@pytest.mark.parametrize("seed", range(6))
def test_a_surrogate_row_holds_for_every_point(seed):
    """At points of the program, of any multipliers; with the duals it gives the optimum."""
    rng = np.random.default_rng(seed)
    n, m = 5, 4
    matrix, inside = rng.normal(size=(m, n)), rng.uniform(-0.5, 0.5, n)
    at = matrix @ inside
    program = LinearProgram(
        cost=np.zeros(n),
        lower=-np.ones(n),
        upper=np.ones(n),
        matrix=sp.csr_array(matrix),
        row_lower=np.where(rng.random(m) < 0.5, -np.inf, at - 0.2),
        row_upper=np.where(rng.random(m) < 0.5, np.inf, at + 0.2),
    )
    columns, certifier = np.array([0, 2, 3]), Certifier(program)
    x = np.clip(inside + 0.5 * rng.normal(size=(4000, n)), -1, 1)
    activity = x @ matrix.T
    x = x[((activity >= program.row_lower) & (activity <= program.row_upper)).all(axis=1)]
    assert len(x) > 5
    for _ in range(5):
        found = certifier.surrogate_row(rng.normal(size=m), columns)
        assert found is not None
        assert (x[:, columns] @ found[0] + found[1]).max() <= 0.0
    cost = np.zeros(n)
    cost[columns] = rng.normal(size=3)
    answer = HighsModel(replace(program, cost=cost)).run()
    row, constant = certifier.surrogate_row(answer.row_duals, columns)
    reduced = cost[columns] + row
    assert constant - abs(reduced).sum() == pytest.approx(answer.objective, abs=1e-6)


def test_a_column_without_bounds_leaves_no_surrogate_row():
    program = LinearProgram(
        cost=np.zeros(2),
        lower=np.array([0.0, -np.inf]),
        upper=np.array([1.0, np.inf]),
        matrix=sp.csr_array(np.ones((1, 2))),
        row_lower=np.array([0.0]),
        row_upper=np.array([1.0]),
    )
    certifier = Certifier(program)
    assert certifier.surrogate_row(np.ones(1), np.array([0])) is None
    row, constant = certifier.surrogate_row(np.zeros(1), np.array([0]))
    assert not row.any() and -1e-9 <= constant <= 0.0
