"""`solve_quietly`: a status in three words, a loaded point, and no error without one."""

from __future__ import annotations

import math

import pyomo.environ as pyo
import pytest

from pyomo_relu import ReLUNetBlock
from pyomo_relu.solvers import ReluGlobal, ReluHighs
from pyomo_relu.solvers.quietly import solve_quietly
from tests.harness.random_networks import he_network

pytest.importorskip("highspy")


def model(cap: float) -> pyo.ConcreteModel:
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(2), bounds=(-1, 1))
    m.net = ReLUNetBlock(network=he_network(0, (2, 6, 1)), inputs=m.x)
    m.least = pyo.Constraint(expr=m.net.outputs[0] >= cap)
    m.obj = pyo.Objective(expr=m.net.outputs[0])
    return m


def solvers() -> list:
    return [ReluHighs(), ReluGlobal(), pyo.SolverFactory("relu_highs")]


@pytest.mark.parametrize("k", range(3))
def test_the_best_point_is_loaded(k: int) -> None:
    m = model(-100.0)
    found = solve_quietly(solvers()[k], m, 30.0)
    assert found.status == "optimal"
    assert found.value == pytest.approx(pyo.value(m.obj), abs=1e-5)
    assert found.bound == pytest.approx(found.value, abs=1e-3)


@pytest.mark.parametrize("k", range(3))
def test_no_point_is_no_error(k: int) -> None:
    m = model(100.0)
    found = solve_quietly(solvers()[k], m)
    assert found.status == "infeasible" and found.value is None
    assert m.x[0].value is None


def test_without_time_nothing_is_proved() -> None:
    found = solve_quietly(ReluGlobal(), model(-100.0), 0.0)
    assert found.status == "stopped" and (math.isnan(found.bound) or found.bound < 100.0)
