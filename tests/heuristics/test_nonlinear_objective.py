"""Objectives that aren't linear: feasible points, the objective's own value, values that stay."""

from __future__ import annotations

import pyomo.environ as pyo
import pytest
from pyomo.contrib.solver.common.util import IncompatibleModelError

from pyomo_relu import ReLUNetBlock, find_start
from pyomo_relu.heuristics.nonlinear_objective import nonlinear_objective
from tests.harness.random_networks import he_network

pytest.importorskip("highspy")


def revenue(objective: str = "bilinear", **options) -> pyo.ConcreteModel:
    """Sales up to what a network says of the price, and stock."""
    m = pyo.ConcreteModel()
    m.price = pyo.Var(range(3), bounds=(0.2, 2))
    m.sold, m.only = pyo.Var(range(3), bounds=(0, 5)), pyo.Var(bounds=(0.5, 4))
    net = he_network(3, (1, 8, 1))
    m.net = ReLUNetBlock(range(3), network=net, inputs=lambda m, i: [m.price[i]], **options)
    m.most = pyo.Constraint(
        range(3), rule=lambda m, i: m.sold[i] <= 2 + m.net[i].outputs[0]
    )
    m.stock = pyo.Constraint(expr=sum(m.sold.values()) <= 4)
    income = sum(m.price[i] * m.sold[i] for i in range(3))
    kinds = {
        "bilinear": income,
        "log": income + pyo.log(m.only) - 0.1 * m.only**2,
        "linear": sum(m.sold.values()),
    }
    m.obj = pyo.Objective(expr=kinds[objective], sense=pyo.maximize)
    return m


@pytest.mark.parametrize("formulation", ["bigm", None])
@pytest.mark.parametrize("objective", ["bilinear", "log"])
def test_feasible_and_worth_what_it_says(objective, formulation):
    m = revenue(objective, formulation=formulation)
    start = find_start(m, 2.0)
    assert start.feasible and start.value == pytest.approx(pyo.value(m.obj))
    assert max(b.error() for b in m.net.values()) <= 1e-9
    for row in m.component_data_objects(pyo.Constraint, active=True):
        assert row.lslack() >= -1e-6 and row.uslack() >= -1e-6
    # Not only feasible: better than everything sold at the lowest price.
    assert start.value > 0.2 * 4


def test_the_model_is_as_before_but_for_values():
    m = revenue()
    components = [c.name for c in m.component_objects()]
    m.price[1].fix(0.7)
    start = find_start(m, 1.0)
    assert [c.name for c in m.component_objects()] == components
    assert m.obj.active and m.price[1].fixed and m.price[1].value == 0.7
    assert start.feasible


def test_which_objectives_count():
    assert nonlinear_objective(revenue("linear")) is None
    m = revenue("bilinear")
    assert nonlinear_objective(m) is m.obj
    for price in m.price.values():
        price.fix(1.0)
    assert nonlinear_objective(m) is None  # linear by what is fixed
    m.obj.deactivate()
    assert nonlinear_objective(m) is None


def test_rows_have_to_be_linear():
    m = revenue()
    m.bad = pyo.Constraint(expr=m.price[0] * m.sold[0] <= 1)
    with pytest.raises(IncompatibleModelError, match="bad"):
        find_start(m, 1.0)
