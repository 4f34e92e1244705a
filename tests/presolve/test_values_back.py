"""Points of a problem as values of the user's variables: sides of steps between networks."""

from __future__ import annotations

import numpy as np
import pyomo.environ as pyo
import pytest

from pyomo_relu import NetworkBuilder, ReLUNetBlock, activations
from pyomo_relu.network import Network
from pyomo_relu.presolve.reading import read_problem
from pyomo_relu.presolve.values_back import values_at
from tests.harness.random_networks import he_network


def switches() -> Network:
    """Two steps at 0 of one input, whose outputs are 1 or 2, and 1 or 3."""
    builder = NetworkBuilder()
    x = builder.input("x", (1,))
    pre = builder.affine("pre", [(x, np.ones((2, 1)))])
    step = builder.piecewise("step", pre, activations.step())
    return builder.build([builder.affine("y", [(step, np.diag([1.0, 2.0]))], 1.0)])


@pytest.mark.parametrize("sides", [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_outputs_between_two_networks_at_a_step_are_those_that_the_second_one_read(sides):
    """The outputs of the first are no columns: what says their side is the second one."""
    m = pyo.ConcreteModel()
    m.x = pyo.Var(bounds=(-1, 1))
    m.first = ReLUNetBlock(network=switches(), inputs=[m.x], formulation="bigm")
    m.second = ReLUNetBlock(
        network=he_network(0, (2, 4, 1)),
        inputs=list(m.first.outputs.values()),
        formulation=None,
    )
    m.cost = pyo.Objective(expr=m.second.outputs[0] + m.x)
    problem = read_problem(m)
    assert [v.name for v in problem.columns] == ["x", "second.outputs[0]"]
    between = np.array([1.0, 1.0]) + np.array([1.0, 2.0]) * sides
    last = float(m.second.network.evaluate(between)[0])
    found = values_at(problem, np.array([0.0, last]))
    assert [found[y] for y in m.first.outputs.values()] == between.tolist()
    assert found[m.second.outputs[0]] == last
    assert found[m.x] == 0.0


def test_a_step_that_the_outputs_dont_fit_is_what_the_network_says():
    """Nothing agrees: each network is evaluated, as where no step is near."""
    m = pyo.ConcreteModel()
    m.x = pyo.Var(bounds=(-1, 1))
    m.first = ReLUNetBlock(network=switches(), inputs=[m.x], formulation="bigm")
    m.second = ReLUNetBlock(
        network=he_network(0, (2, 4, 1)),
        inputs=list(m.first.outputs.values()),
        formulation=None,
    )
    m.cost = pyo.Objective(expr=m.second.outputs[0] + m.x)
    found = values_at(read_problem(m), np.array([0.0, 123.0]))
    assert [found[y] for y in m.first.outputs.values()] == [2.0, 3.0]
