"""A program as a Pyomo model has the program's optimum."""

from __future__ import annotations

import math

import numpy as np
import pyomo.environ as pyo
import pytest

from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.programs import HighsModel, LinearProgram
from pyomo_relu.programs.as_model import ProgramModel

pytest.importorskip("highspy")


def random_program(seed: int) -> LinearProgram:
    """Ranges, equalities, rows with one side or none, entries of zero, integers."""
    rng = np.random.default_rng(seed)
    n, k = 6, 7
    matrix = np.round(rng.normal(size=(k, n)), 2) * (rng.random((k, n)) < 0.6)
    matrix[0] = 0.0
    z = rng.integers(-2, 3, n).astype(float)
    low, high = matrix @ z - rng.random(k), matrix @ z + rng.random(k)
    low[1], high[2] = -math.inf, math.inf
    low[3], high[3] = -math.inf, math.inf
    low[4] = high[4] = matrix[4] @ z
    stored = sp.csr_array(matrix + (matrix == 0) * 1.0)
    stored.data[(matrix == 0).ravel()] = 0.0
    integer = rng.random(n) < 0.5
    cost = np.round(rng.normal(size=n), 2) * (rng.random(n) < 0.7)
    ends = np.full(n, -3.0), np.full(n, 3.0)
    return LinearProgram(
        cost, *ends, stored, low, high, integer, 1.5, maximize=seed % 2 == 1
    )


@pytest.mark.parametrize("seed", range(10))
def test_it_has_the_optimum_of_the_arrays(seed):
    program = random_program(seed)
    answer = HighsModel(program).run()
    assert answer.optimal
    written = ProgramModel(program)
    pyo.SolverFactory("appsi_highs").solve(written.model)
    assert pyo.value(written.model.cost) == pytest.approx(answer.objective, abs=1e-6)
    x = written.values()
    assert program.violation(x) <= 1e-6
    assert program.cost @ x + 1.5 == pytest.approx(answer.objective, abs=1e-6)


def test_a_row_without_columns_may_be_impossible_and_a_cost_may_be_nothing():
    program = random_program(0)
    program.cost[:] = 0.0
    pyo.SolverFactory("appsi_highs").solve(ProgramModel(program).model)
    program.row_lower[0], program.row_upper[0] = 1.0, 2.0
    found = pyo.SolverFactory("appsi_highs").solve(
        ProgramModel(program).model, load_solutions=False
    )
    assert str(found.solver.termination_condition) == "infeasible"


def test_values_come_back_and_those_without_one_are_near_zero():
    program = random_program(1)
    program.lower[2] = 1.0
    written = ProgramModel(program)
    assert written.values().tolist() == [0.0, 0.0, 1.0, 0.0, 0.0, 0.0]
    x = np.arange(6.0) - 2.0
    written.set_values(x)
    assert (written.values() == x).all()
