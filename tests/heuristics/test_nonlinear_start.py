"""Models that aren't linear: feasible points, the objective's own value, values that stay."""

from __future__ import annotations

import pyomo.environ as pyo
import pytest
from pyomo.contrib.solver.common.util import IncompatibleModelError

from pyomo_relu import ReLUNetBlock, find_start
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
    start = find_start(m, 0.5)
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
    start = find_start(m, 0.5)
    assert [c.name for c in m.component_objects()] == components
    assert m.obj.active and m.price[1].fixed and m.price[1].value == 0.7
    assert start.feasible


def mixed(seed: int = 3, **options) -> pyo.ConcreteModel:
    """A mixer: nonlinear equalities, an integer, a nonlinear input, an SOS constraint."""
    m = pyo.ConcreteModel()
    m.flow, m.share = pyo.Var(range(2), bounds=(0.1, 3)), pyo.Var(range(3), bounds=(0, 1))
    m.plants = pyo.Var(domain=pyo.Integers, bounds=(1, 4))
    m.used = pyo.Var(range(3), bounds=(0, 1))
    net = he_network(seed, (2, 8, 2))
    inputs = [m.share[2], m.flow[0] * m.share[0]]
    m.net = ReLUNetBlock(network=net, inputs=inputs, **options)
    total = m.flow[0] + m.flow[1]
    m.mixed = pyo.Constraint(
        expr=total * m.share[2] == m.flow[0] * m.share[0] + m.flow[1] * m.share[1]
    )
    m.curved = pyo.Constraint(expr=pyo.exp(m.share[0]) + m.share[1] ** 2 == 1.8)
    m.made = pyo.Constraint(expr=total * m.plants >= 6 + 0.1 * m.net.outputs[0])
    m.some = pyo.Constraint(expr=sum(m.used.values()) >= 0.5 + 0.2 * m.share[0])
    m.sos = pyo.SOSConstraint(var=m.used, sos=1)
    m.obj = pyo.Objective(
        expr=m.net.outputs[1] - 0.2 * m.plants - 0.1 * pyo.atan(m.flow[0]) - m.used[0],
        sense=pyo.maximize,
    )
    return m


@pytest.mark.parametrize("formulation", ["bigm", "complementarity", None])
def test_nonlinear_rows_and_inputs_hold(formulation):
    m = mixed(formulation=formulation)
    start = find_start(m, 0.5)
    assert start.feasible and start.value == pytest.approx(pyo.value(m.obj))
    assert m.net.error() <= 1e-7
    for row in (m.mixed, m.curved, m.made, m.some):
        assert min(row.lslack(), row.uslack()) >= -1e-6
    assert abs(m.plants.value - round(m.plants.value)) <= 1e-9
    assert sum(abs(v.value) > 1e-6 for v in m.used.values()) == 1


def test_what_no_point_satisfies_has_the_least_violated_one():
    m = mixed()
    m.never = pyo.Constraint(expr=m.flow[0] * m.share[2] >= 4)
    start = find_start(m, 0.5)
    assert not start.feasible and 0.1 < start.violation < 2


def test_terms_that_nobody_knows_are_named():
    m = mixed()
    m.bad = pyo.Constraint(expr=pyo.ceil(m.flow[0]) <= 1)
    with pytest.raises(IncompatibleModelError, match="ceil"):
        find_start(m, 1.0)
