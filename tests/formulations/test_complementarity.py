"""Complementarity with Ipopt: local optima that the network really takes."""

from __future__ import annotations

import numpy as np
import pyomo.environ as pyo
import pytest

from pyomo_relu.analysis import linear_regions
from tests.harness.formulations import boxed_model, primitive_network
from tests.harness.ipopt import ipopt_or_skip
from tests.harness.random_networks import CONTINUOUS

#: Ipopt relaxes ``r s <= 0`` by 1e-8, so that both may be 1e-4.
TOLERANCE = 2e-3


def scale(net, x) -> float:
    return max(1.0, *(float(np.abs(v).max()) for v in net.activations(x)))


@pytest.mark.parametrize("name", [*CONTINUOUS, "max"])
def test_ipopt_finds_the_networks_values(name):
    """With the inputs fixed there is one solution, wherever Ipopt starts."""
    solve = ipopt_or_skip()
    net = primitive_network(name, 0)
    m = boxed_model(net, -1.0, 1.0, "complementarity")
    rng = np.random.default_rng(0)
    c = rng.normal(size=net.n_outputs)
    m.goal = pyo.Objective(
        expr=pyo.quicksum(float(a) * y for a, y in zip(c, m.net.outputs.values()))
    )
    solved = 0
    for x, start in rng.uniform(-1, 1, (4, 2, 2)):
        m.net.warm_start(start)
        for i, number in enumerate(x):
            m.x[i].fix(float(number))
        if solve(m):
            solved += 1
            assert m.net.error() <= TOLERANCE * scale(net, x)
        m.x.unfix()
    assert solved >= 2  # the constraints have no interior: it may fail, not be wrong


@pytest.mark.parametrize("name", [*CONTINUOUS, "max"])
def test_ipopt_finds_a_local_optimum(name):
    """Of the network, no better than the exact one and no worse than its start."""
    solve = ipopt_or_skip()
    net = primitive_network(name, 2)
    m = boxed_model(net, -1.0, 1.0, "complementarity")
    m.goal = pyo.Objective(expr=m.net.outputs[0])
    exact = linear_regions(net, [-1.0] * 2, [1.0] * 2).optimum(0, "min").value
    solved = 0
    for x in np.random.default_rng(1).uniform(-1, 1, (3, 2)):
        start = m.net.warm_start(x)[0]
        if not solve(m):
            continue
        solved += 1
        found = pyo.value(m.goal)
        slack = TOLERANCE * scale(net, [v.value for v in m.x.values()])
        assert m.net.error() <= slack
        assert exact - slack <= found <= start + slack
    assert solved >= 1


def test_mpec_as_disjunctions_is_exact():
    """``mpec.simple_disjunction`` and Pyomo's hull of it: a program with binaries."""
    net = primitive_network("relu", 2)
    m = boxed_model(net, -1.0, 1.0, "complementarity", mpec="mpec.simple_disjunction")
    pyo.TransformationFactory("gdp.hull").apply_to(m)
    m.goal = pyo.Objective(expr=m.net.outputs[0])
    pyo.assert_optimal_termination(pyo.SolverFactory("appsi_highs").solve(m))
    exact = linear_regions(net, [-1.0] * 2, [1.0] * 2).optimum(0, "min").value
    assert pyo.value(m.goal) == pytest.approx(exact, abs=1e-6)
    assert m.net.error() < 1e-6
