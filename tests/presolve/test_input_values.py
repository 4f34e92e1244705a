"""Values of inputs that rows of the model allow, and tables of them."""

from __future__ import annotations

import numpy as np
import pyomo.environ as pyo
import pytest

from pyomo_relu import ReLUNetBlock
from pyomo_relu.presolve.input_values import input_values
from tests.harness.random_networks import random_network

GRID = [0.5, 0.75, 1.5]


def model(seed: int = 0, **options):
    """A price of a grid, twice a level that is an integer, one of any value, a number."""
    net = random_network(np.random.default_rng(seed), n_inputs=4, widths=(6, 5))
    m = pyo.ConcreteModel()
    m.z = pyo.Var(range(3), domain=pyo.Binary)
    m.price, m.level = pyo.Var(bounds=(0, 2)), pyo.Var(bounds=(-5, 5))
    m.n, m.x = pyo.Var(domain=pyo.Integers, bounds=(-1, 1)), pyo.Var(bounds=(-1, 1))
    m.one = pyo.Constraint(expr=sum(m.z.values()) == 1)
    m.chosen = pyo.Constraint(
        expr=m.price == sum(g * z for g, z in zip(GRID, m.z.values()))
    )
    m.levels = pyo.Constraint(expr=m.level - 0.5 * m.n == 0.25)
    m.net = ReLUNetBlock(
        network=net, inputs=[2 * m.price - 1, m.level, m.x, 0.3], **options
    )
    m.sum = pyo.Constraint(expr=m.price + m.x + m.n <= 1.8)
    cost = np.random.default_rng(seed).normal(size=3)
    m.goal = pyo.Objective(
        expr=m.net.outputs[0] + cost[0] * m.price + cost[1] * m.n + cost[2] * m.x
    )
    return m


def optimum(m) -> float:
    solver = pyo.SolverFactory("appsi_highs")
    solver.highs_options = {"mip_rel_gap": 1e-9}
    solver.solve(m)
    return pyo.value(m.goal)


def test_what_is_found():
    m = model(formulation=None)
    found = input_values(m.net)
    assert list(found) == [0, 1]
    assert [*found[0]] == pytest.approx([2 * g - 1 for g in GRID])
    assert [v is z for v, z in zip(found[0].values(), m.z.values())] == [True] * 3
    assert found[1] == pytest.approx([-0.25, 0.25, 0.75])
    m.one.set_value(sum(m.z.values()) <= 1)
    found = input_values(m.net)
    assert found[0] == pytest.approx([-1.0, 0.0, 0.5, 2.0])
    m.product = pyo.Constraint(expr=m.x * m.price <= 1)
    assert input_values(m.net) == {}


@pytest.mark.parametrize("formulation", ["table", "auto"])
@pytest.mark.parametrize("seed", range(5))
def test_optima_are_those_of_bigm(seed, formulation):
    m = model(seed, formulation="bigm")
    true = optimum(m)
    option = {"values": "model"} if formulation == "table" else {"ask_model": True}
    m.net.reformulate(formulation, **option)
    assert optimum(m) == pytest.approx(true, abs=1e-6)
    assert m.net.error() < 1e-6
    copy = m.clone()
    assert optimum(copy) == pytest.approx(true, abs=1e-6)
    if formulation == "auto":
        assert m.net.statistics().reason == (
            "table: one input takes any value, the others 9 combinations of values"
        )


@pytest.mark.parametrize("change", ["row", "bound", "binary", "other"])
def test_values_that_come_later_are_refused(change):
    m = model(formulation=None)
    m.net.reformulate("table", values="model")
    best = optimum(m)
    if change == "row":
        m.one.deactivate()
    elif change == "bound":
        m.n.setub(2)
    elif change == "binary":
        m.chosen.set_value(m.price == 0.5 * m.z[1] + 0.75 * m.z[0] + 1.5 * m.z[2])
    else:
        m.n.setub(0)  # fewer values are no harm
        assert optimum(m) >= best - 1e-9
        return
    with pytest.raises(
        ValueError, match=r"table has the values of input [01].*reformulate"
    ):
        optimum(m)
    if change != "row":
        m.net.reformulate()
        changed = optimum(m)
        m.net.reformulate("bigm")
        assert changed == pytest.approx(optimum(m), abs=1e-6)
