"""Answers in Pyomo's terms: what has a value after a solve."""

from __future__ import annotations

import pyomo.environ as pyo
import pytest

from pyomo_relu import ReLUNetBlock
from tests.harness.random_networks import he_network

pytest.importorskip("highspy")


@pytest.mark.parametrize("solver", ["relu", "relu_global", "relu_highs", "relu_scip"])
def test_the_objective_has_a_value_where_a_price_is_zero(solver):
    """Variables that are nowhere else get the value nearest to 0; others keep theirs."""
    if solver == "relu_scip":
        pytest.importorskip("pyscipopt")
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(2), bounds=(-1, 1))
    m.price = pyo.Param(initialize=0.0, mutable=True)
    bounds = {0: (1.5, 3), 1: (None, -2), 2: (None, None), 3: (0, 9)}
    m.idle = pyo.Var(range(4), bounds=bounds, initialize={3: 7.0})
    m.whole = pyo.Var(bounds=(-5, -0.5), domain=pyo.Integers)
    m.net = ReLUNetBlock(network=he_network(0, (2, 4, 1)), inputs=m.x, formulation="bigm")
    bill = m.price * (sum(m.idle.values()) + m.whole)
    m.cost = pyo.Objective(expr=m.net.outputs[0] + bill)
    pyo.SolverFactory(solver).solve(m)
    assert pyo.value(m.cost) == pytest.approx(m.net.outputs[0].value)
    assert [v.value for v in m.idle.values()] == [1.5, -2.0, 0.0, 7.0]
    assert m.whole.value == -1
