"""relu_global looks for points where few drivers are free."""

from __future__ import annotations

import numpy as np
import pyomo.environ as pyo
import pytest

from pyomo_relu import ReLUNetBlock
from pyomo_relu.presolve.reading import read_problem
from pyomo_relu.solvers.global_search.decompose import Decomposition
from pyomo_relu.solvers.global_search.incumbent import Incumbent
from pyomo_relu.solvers.global_search.limits import Limits
from pyomo_relu.solvers.global_search.points import PointSearch
from tests.harness.random_networks import he_network

pytest.importorskip("highspy")


def chain(steps: int) -> pyo.ConcreteModel:
    """States that follow outputs, a target that the last one has to meet closely."""
    m = pyo.ConcreteModel()
    m.s, m.u = (
        pyo.Var(range(steps + 1), bounds=(-3, 3)),
        pyo.Var(range(steps), bounds=(-1, 1)),
    )
    m.start = pyo.Constraint(expr=m.s[0] == 0.4)
    m.net = ReLUNetBlock(
        range(steps),
        network=he_network(3, (2, 12, 1)),
        inputs=lambda m, t: [m.s[t], m.u[t]],
        formulation=None,
    )

    @m.Constraint(range(steps))
    def step(m, t):
        return m.s[t + 1] == 0.5 * m.net[t].outputs[0] + 0.2 * m.u[t]

    m.size = pyo.Var(range(steps), bounds=(0, 1))
    m.up = pyo.Constraint(range(steps), rule=lambda m, t: m.size[t] >= m.u[t])
    m.down = pyo.Constraint(range(steps), rule=lambda m, t: m.size[t] >= -m.u[t])
    s = 0.4
    for u in np.random.default_rng(0).uniform(-1, 1, steps):
        s = 0.5 * m.net[0].network.evaluate(np.array([s, u]))[0] + 0.2 * u
    m.target = pyo.Constraint(expr=(s - 0.005, m.s[steps], s + 0.005))
    m.cost = pyo.Objective(expr=sum(m.size.values()))
    return m


def test_a_chain_has_a_point_before_many_boxes():
    p = read_problem(chain(6))
    found = {}
    for points in (True, False):
        search = Decomposition(p, Limits(points=points, node_limit=2000))
        search.run()
        found[points] = search.incumbent.cost
    assert np.isfinite(found[True]) and not np.isfinite(found[False])


def test_the_best_point_of_both_views_is_shared():
    p = read_problem(chain(3))
    view, incumbent, points = p.for_points(), Incumbent(p), PointSearch(p, 0)
    assert view.n == 3 and p.n == 5
    points.turn(incumbent, 200, 60.0)
    assert incumbent.point is not None
    # What the other search finds is learnt, as it is in the view.
    other = PointSearch(p, 0)
    other.turn(incumbent, 0, 60.0)
    z = other._search.point
    assert p.in_columns_of(view, incumbent.point[None])[0] == pytest.approx(z, abs=1e-9)
    assert view.in_columns_of(p, z[None])[0] == pytest.approx(incumbent.point, abs=1e-9)
    assert view.user_objective(view.cost @ z) == pytest.approx(
        p.user_objective(p.cost @ incumbent.point)
    )


def test_the_answer_is_the_same_with_points():
    m = chain(2)
    m.target.deactivate()
    pyo.SolverFactory("relu_global").solve(m)
    value = pyo.value(m.cost)
    search = Decomposition(read_problem(m), Limits())
    search.run()
    assert search.proved
    assert search.problem.user_objective(search.incumbent.cost) == pytest.approx(
        value, abs=1e-5
    )
    assert max(m.net[t].error() for t in m.net) < 1e-9


def test_a_box_needs_no_programs():
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(2), bounds=(-1, 1))
    m.net = ReLUNetBlock(network=he_network(0, (2, 5, 1)), inputs=m.x, formulation=None)
    m.cost = pyo.Objective(expr=m.net.outputs[0])
    assert PointSearch(read_problem(m), 0).done
