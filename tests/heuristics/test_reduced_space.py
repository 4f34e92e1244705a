"""A problem in its free columns: derivatives, and optima that are curved."""

from __future__ import annotations

import numpy as np
import pyomo.environ as pyo
import pytest

from pyomo_relu import ReLUNetBlock
from pyomo_relu.base.deadline import Deadline
from pyomo_relu.heuristics.linear_model import LinearModel
from pyomo_relu.heuristics.reduced_space import ReducedSpace
from pyomo_relu.presolve.reading import read_problem
from tests.harness.random_networks import he_network

pytest.importorskip("highspy")


def curved(seed: int = 0) -> pyo.ConcreteModel:
    """Two networks in a chain, products, a nonlinear equality, a sum that is read."""
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(4), bounds=(-1, 1))
    m.s, m.k = pyo.Var(bounds=(-2, 2)), pyo.Var(domain=pyo.Integers, bounds=(0, 2))
    net = he_network(seed, (2, 7, 2))
    m.a = ReLUNetBlock(network=net, inputs=[m.x[0], m.s], formulation=None)
    wide = [(-99, 99)] * 2
    inputs = [m.a.outputs[0], m.x[1] * m.x[2]]
    m.b = ReLUNetBlock(network=net, inputs=inputs, input_bounds=wide, formulation=None)
    m.sum = pyo.Constraint(expr=m.s == m.x[1] + m.x[2])
    m.row = pyo.Constraint(expr=m.x[0] ** 2 + m.x[3] * m.a.outputs[1] + m.k == 1.3)
    m.obj = pyo.Objective(expr=m.b.outputs[1] + (m.x[3] - 0.3) ** 2 + m.x[1] ** 2)
    return m


@pytest.mark.parametrize("seed", range(3))
def test_slopes_are_those_of_differences(seed):
    problem = read_problem(curved(seed), general=True).for_points()
    model = LinearModel(problem)
    space = ReducedSpace(model)
    rng = np.random.default_rng(seed)
    low, high = problem.lower[space.free], problem.upper[space.free]
    x = np.clip(low, -1, 1) + rng.random(len(low)) * (
        np.clip(high, -1, 1) - np.clip(low, -1, 1)
    )
    base = np.zeros(model.n_columns)
    point, step = space.point(base, x), 1e-6
    slopes = space.slopes(point)
    for k in range(len(x)):
        move = step * np.eye(len(x))[k]
        difference = space.point(base, x + move) - space.point(base, x - move)
        assert slopes[:, k] == pytest.approx(difference / (2 * step), abs=1e-5)


def test_a_curved_optimum_is_found():
    """The nearest point of a circle, which linear programs follow but slowly."""
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(2), bounds=(-3, 3))
    m.net = ReLUNetBlock(
        network=he_network(0, (1, 4, 1)), inputs=[m.x[0]], formulation=None
    )
    m.row = pyo.Constraint(expr=m.x[0] ** 2 + m.x[1] ** 2 <= 1)
    m.other = pyo.Constraint(expr=m.net.outputs[0] <= 100)
    m.obj = pyo.Objective(expr=(m.x[0] - 2) ** 2 + (m.x[1] - 1) ** 2)
    problem = read_problem(m, general=True)
    model = LinearModel(problem)
    space = ReducedSpace(model)
    assert space.small
    start = space.point(np.zeros(model.n_columns), np.zeros(2))
    found = space.descend(start, model.cost, Deadline())
    place = {v.name: x for v, x in zip(problem.columns, found.tolist())}
    assert [place["x[0]"], place["x[1]"]] == pytest.approx(
        np.array([2, 1]) / 5**0.5, abs=1e-4
    )
    late = space.descend(start, model.cost, Deadline(0.0))
    assert late == pytest.approx(start)
