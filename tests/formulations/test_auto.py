"""What ``auto`` chooses, and that it says why."""

from __future__ import annotations

import numpy as np
import pyomo.environ as pyo
import pytest

from pyomo_relu import ReLUNetBlock
from tests.formulations.test_regions import one_input
from tests.harness.checks import assert_embedding_matches, assert_optimum_matches
from tests.harness.formulations import assert_values_hold, boxed_model, violations
from tests.harness.random_networks import random_network


def integers(net, count: int, most: int = 3):
    """A model whose first inputs are integers from 0 to ``most``, the others numbers."""
    m = pyo.ConcreteModel()
    m.n = pyo.Var(range(count), domain=pyo.Integers, bounds=(0, most))
    numbers = [0.25] * (net.n_inputs - count)
    m.net = ReLUNetBlock(network=net, inputs=[*m.n.values(), *numbers], formulation="auto")
    return m


def test_few_values_make_a_table():
    net = random_network(np.random.default_rng(0), n_inputs=4, widths=(6, 6))
    m = integers(net, 3)
    stats = m.net.statistics()
    assert stats.reason == "table: the inputs take 64 combinations of values"
    assert stats.layers[0].formulation == "table"
    assert f"net: auto ({stats.reason})" in str(stats)
    for v, n in zip(m.n.values(), (1, 3, 0)):
        v.value = n
    m.net.warm_start([1, 3, 0, 0.25])
    assert violations(m) == []
    assert integers(net, 4, most=7).net.statistics().reason == (
        "bigm: 4 inputs are free, of other than few values"
    )


def test_one_input_beside_few_values():
    net = random_network(np.random.default_rng(0), n_inputs=2, widths=(6, 6))
    m = pyo.ConcreteModel()
    m.x, m.on = pyo.Var(bounds=(-1, 1)), pyo.Var(domain=pyo.Binary)
    m.net = ReLUNetBlock(network=net, inputs=[m.x, 1.2 + 0.8 * m.on], formulation="auto")
    assert m.net.statistics().reason == (
        "table: one input takes any value, the others 2 combinations of values"
    )
    m.net.reformulate("auto", most_pieces=3)
    assert m.net.statistics().reason.startswith("bigm: the network has more than 3")


@pytest.mark.parametrize("seed", range(4))
def test_one_free_input_makes_a_curve(seed):
    m = boxed_model(one_input(seed), -1.5, 2.0, "auto")
    assert m.net.statistics().reason.startswith("regions: one input is free")
    assert_optimum_matches(m, m.net, objectives=[0], samples=300)
    assert_embedding_matches(m, m.net)
    assert_values_hold(m)
    m.net.reformulate("auto", most_pieces=2)
    assert "more than 2 linear pieces" in m.net.statistics().reason
    m.net.reformulate("bigm")
    assert m.net.statistics().reason == ""


def test_sides_come_from_the_model():
    m = boxed_model(one_input(0), -1.5, 2.0, None)
    m.goal = pyo.Objective(expr=m.net.outputs[0], sense=pyo.maximize)
    m.net.reformulate("auto", ask_model=True)
    assert "hypograph" in m.net.statistics().layers[0].function
    m.row = pyo.Constraint(expr=m.net.outputs[0] <= 0.0)
    with pytest.raises(ValueError, match="only the hypograph"):
        pyo.SolverFactory("appsi_highs").solve(m)


def test_a_network_without_free_inputs():
    m = boxed_model(one_input(0), 0.5, 0.5, "auto")
    assert m.net.statistics().reason.startswith("regions: 0 inputs are free")
    assert_embedding_matches(m, m.net)


def test_the_choice_is_made_anew_when_the_model_has_changed():
    net = random_network(np.random.default_rng(0), n_inputs=3)
    m = boxed_model(net, -1.0, 1.0, "auto")
    for start in ("bigm: 3 inputs", "regions: 2 inputs", "regions: one input"):
        assert m.net.statistics().reason.startswith(start)
        i = 2 if m.x[2].lb < m.x[2].ub else 1
        m.x[i].setlb(0.5)
        m.x[i].setub(0.5)
        m.net.reformulate()
    with pytest.raises(ValueError, match="no option 'parts'"):
        m.net.reformulate("auto", parts=3)
