"""Inputs that rows define: both views have the model's optimum, points map back."""

from __future__ import annotations

import numpy as np
import pyomo.environ as pyo
import pytest

from pyomo_relu import ReLUNetBlock
from pyomo_relu.presolve.problem import Problem
from pyomo_relu.presolve.reading import read_problem
from pyomo_relu.solvers.global_search.incumbent import Incumbent
from pyomo_relu.solvers.global_search.mip import BoxMIP, node_ranges
from tests.harness.random_networks import he_network
from tests.presolve.random_wired import random_wired

pytest.importorskip("highspy")


def names(p: Problem) -> list[str]:
    return [v.name for v in p.columns[: p.n]]


def written_optimum(m: pyo.ConcreteModel) -> float | None:
    """What HiGHS says of the rows that the blocks wrote; None where it is infeasible."""
    from pyomo.contrib.appsi.base import TerminationCondition
    from pyomo.contrib.appsi.solvers import Highs

    solver = Highs()
    solver.config.load_solution = False
    solver.highs_options = {"mip_rel_gap": 1e-9}
    found = solver.solve(m)
    if found.termination_condition in (
        TerminationCondition.infeasible,
        TerminationCondition.infeasibleOrUnbounded,
    ):
        return None
    return float(found.best_feasible_objective)


def view_optimum(p: Problem) -> tuple[float | None, np.ndarray | None]:
    """The optimum of a problem as one MIP, and a point of its columns."""
    if p.infeasible:
        return None, None
    answer = BoxMIP(p, p.lower, p.upper, *node_ranges(p, *p.box)).solve()
    if answer.point is None:
        return None, None
    return p.user_objective(float(p.cost @ answer.point)), answer.point


def violation(m: pyo.ConcreteModel) -> float:
    """The most that a row of the user's, a bound or an integer is missed by."""
    rows = (max(-c.lslack(), -c.uslack()) for c in m.rows.values())
    variables = [
        x for v in (m.s, m.u, m.p, m.k, m.z, m.c, m.free) for x in v.values() if not x.fixed
    ]
    given = [x for x in variables if x.value is not None]
    bounds = (max(x.lb - x.value, x.value - x.ub) for x in given)
    whole = (abs(x.value - round(x.value)) for x in given if x.is_integer())
    return max(*rows, *bounds, *whole)


@pytest.mark.parametrize("seed", range(40))
def test_both_views_have_the_optimum_and_points_map_back(seed):
    m = random_wired(seed)
    p = read_problem(m)
    expected = written_optimum(m)
    for view in (p, p.for_points()):
        value, z = view_optimum(view)
        if expected is None:
            assert value is None
            continue
        assert value == pytest.approx(expected, rel=1e-5, abs=1e-5)
        incumbent = Incumbent(p)
        assert incumbent.offer(view.in_columns_of(p, z[None])[0])
        assert p.user_objective(incumbent.cost) == pytest.approx(value, rel=1e-5, abs=1e-5)
        load(m, p, incumbent.point)
        assert violation(m) < 1e-5


def load(m: pyo.ConcreteModel, p: Problem, point: np.ndarray) -> None:
    """Set the columns, and the outputs by the networks themselves."""
    for v in m.component_data_objects(pyo.Var):
        if not v.fixed:
            v.set_value(None)
    for v, x in zip(p.columns, point.tolist()):
        v.set_value(x, skip_validation=True)
    for t in m.net:
        block = m.net[t].block
        x = np.array([pyo.value(e) for e in block.inputs.values()])
        for v, y in zip(block.outputs.values(), block.network.evaluate(x).tolist()):
            assert v.value is None or v.value == pytest.approx(y, abs=1e-6)
            v.set_value(y, skip_validation=True)


@pytest.mark.parametrize("seed", range(60, 72))
def test_relu_global_solves_wired_models(seed):
    m = random_wired(seed)
    expected = written_optimum(m)
    if expected is None:
        results = pyo.SolverFactory("relu_global").solve(m, load_solutions=False)
        assert str(results.solver.termination_condition) == "infeasible"
        return
    value = m.cost.expr
    pyo.assert_optimal_termination(pyo.SolverFactory("relu_global").solve(m))
    assert pyo.value(value) == pytest.approx(expected, rel=2e-4, abs=2e-4)
    assert violation(m) < 1e-5
    assert max(m.net[t].block.error() for t in m.net) < 1e-6


def test_bounds_that_are_whole_numbers_meet_others():
    m = pyo.ConcreteModel()
    m.x = pyo.Var(bounds=(0, 3))
    m.net = ReLUNetBlock(
        network=he_network(0, (1, 4, 1)), inputs=[m.x], input_bounds=(0.5, 2.75)
    )
    m.row = pyo.Constraint(expr=m.net.outputs[0] + m.x >= -100)
    m.cost = pyo.Objective(expr=m.x, sense=pyo.maximize)
    pyo.SolverFactory("relu_global").solve(m)
    assert m.x.value == pytest.approx(2.75)


def chain(steps: int, alias: bool = True) -> pyo.ConcreteModel:
    """States that follow outputs, and one torque for each step."""
    m = pyo.ConcreteModel()
    m.s = pyo.Var(range(steps + 1), bounds=(-3, 3))
    m.u = pyo.Var(range(steps), bounds=(-1, 1))
    m.start = pyo.Constraint(expr=2 * m.s[0] == 0.8)
    m.net = ReLUNetBlock(
        range(steps),
        network=he_network(3, (2, 4, 1)),
        inputs=lambda m, t: [m.s[t], m.u[t]],
        formulation=None,
    )

    @m.Constraint(range(steps))
    def step(m, t):
        y = 0.5 * m.net[t].outputs[0]
        return m.s[t + 1] == (y if alias else m.s[t] - y)

    m.cost = pyo.Objective(expr=m.s[steps] + 0.1 * m.s[1])
    return m


@pytest.mark.parametrize("alias", [True, False])
def test_states_of_a_chain_stay_drivers_for_bounds_only(alias):
    m = chain(4, alias)  # which the names of its variables need alive
    p = read_problem(m)
    assert names(p) == ["u[0]", "s[1]", "u[1]", "s[2]", "u[2]", "s[3]", "u[3]"]
    assert names(p.for_points()) == ["u[0]", "u[1]", "u[2]", "u[3]"]
    assert p.for_points().for_points() is p.for_points()


@pytest.mark.parametrize("whole", [False, True])
def test_what_is_affine_in_one_variable_leaves_rows_and_search(whole):
    m = pyo.ConcreteModel()
    m.r, m.p, m.q = pyo.Var(bounds=(0, 3)), pyo.Var(bounds=(0, 5)), pyo.Var()
    m.r.domain = pyo.Integers if whole else pyo.Reals
    m.net = ReLUNetBlock(
        network=he_network(0, (2, 4, 1)), inputs=[m.p, m.q], input_bounds=[(0, 5), (0, 9)]
    )
    m.a = pyo.Constraint(expr=m.p == 1.25 + 0.75 * m.r)
    m.b = pyo.Constraint(expr=2 * m.q == m.p + 1)
    m.c = pyo.Constraint(expr=3 * m.q + m.net.outputs[0] <= 100)
    m.cost = pyo.Objective(expr=m.net.outputs[0] - m.q)
    p = read_problem(m)
    if whole:  # an integer that no network reads is a driver for points only
        assert names(p) == ["p"]
        p = p.for_points()
    assert names(p) == ["r"] and p.integer[0] == whole
    assert p.implied.sum() == 2 and len(p.row_lower) == 1
    # 3 q = 3 (1 + 1.25 + 0.75 r) / 2
    assert p.matrix.toarray()[0].tolist() == [1.125, 1.0, 0.0, 0.0]
    assert p.row_upper[0] == pytest.approx(100 - 3.375)
    expected = {}
    for r in range(4) if whole else np.linspace(0, 3, 3001):
        x = 1.25 + 0.75 * r
        y = m.net.network.evaluate(np.array([x, (x + 1) / 2]))[0]
        expected[r] = float(y) - (x + 1) / 2
    pyo.SolverFactory("relu_global").solve(m)
    assert pyo.value(m.cost) == pytest.approx(min(expected.values()), rel=2e-4)
    assert m.p.value == pytest.approx(1.25 + 0.75 * m.r.value)


@pytest.mark.parametrize("size", [1.0, 3e9])
def test_a_definition_that_rounding_leaves_twice_is_no_bound(size):
    m = pyo.ConcreteModel()
    m.r, m.p = (pyo.Var(bounds=(-k * size, k * size)) for k in (1, 3))
    m.net = ReLUNetBlock(network=he_network(0, (1, 4, 1)), inputs=[m.p], formulation=None)
    m.a = pyo.Constraint(expr=m.p == 1.1 * size + 0.7 * m.r)
    # In floating-point numbers 3 * 1.1 isn't 3.3, and 3 * 0.7 isn't 2.1.
    m.b = pyo.Constraint(expr=3 * m.p - 2.1 * m.r == 3.3 * size)
    m.cost = pyo.Objective(expr=m.net.outputs[0] + 5 * m.r)
    p = read_problem(m)
    assert p.infeasible is None and p.is_box
    assert (p.lower[0], p.upper[0]) == (-size, size)


def test_bounds_of_what_is_replaced_are_bounds_of_what_replaces_it():
    m = pyo.ConcreteModel()
    m.r, m.p = pyo.Var(), pyo.Var(bounds=(0, 5))
    m.net = ReLUNetBlock(network=he_network(0, (1, 4, 1)), inputs=[m.p], formulation=None)
    m.a = pyo.Constraint(expr=m.p == 1 - 2 * m.r)
    m.cost = pyo.Objective(expr=m.net.outputs[0])
    p = read_problem(m)
    assert (p.lower[0], p.upper[0]) == (-2.0, 0.5) and p.is_box


def test_circles_are_left_open():
    m = pyo.ConcreteModel()
    m.s = pyo.Var(range(2), bounds=(-5, 5))
    for k in range(2):
        net = he_network(k, (1, 4, 1))
        m.add_component(
            f"net{k}", ReLUNetBlock(network=net, inputs=[m.s[k]], formulation=None)
        )
    m.a = pyo.Constraint(expr=m.s[1] == 0.3 * m.net0.outputs[0])
    m.b = pyo.Constraint(expr=m.s[0] == 0.3 * m.net1.outputs[0] + 0.1)
    m.cost = pyo.Objective(expr=m.s[0])
    p = read_problem(m)
    assert names(p) == ["s[0]", "s[1]"]
    assert names(p.for_points()) in (["s[0]"], ["s[1]"])
    pyo.SolverFactory("relu_global").solve(m)
    assert violation_of(m) < 1e-6


def violation_of(m: pyo.ConcreteModel) -> float:
    return max(abs(c.body() - pyo.value(c.upper)) for c in (m.a, m.b))


def test_networks_of_constants_are_values():
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(11), bounds=(-1, 1))
    for j in range(1, 11):
        m.x[j].setlb(0.05 * j)
        m.x[j].setub(0.05 * j)
    m.row = pyo.Constraint(expr=4 * m.x[10] == 2)
    m.net = ReLUNetBlock(network=he_network(0, (11, 5, 1)), inputs=m.x, formulation=None)
    m.other = ReLUNetBlock(
        network=he_network(1, (2, 4, 1)), inputs=[m.x[3], m.x[10]], formulation=None
    )
    m.cost = pyo.Objective(expr=m.net.outputs[0] + m.other.outputs[0])
    p = read_problem(m)
    assert p.n == 1 and p.q == 1 and names(p) == ["x[0]"] and p.is_box
    pyo.SolverFactory("relu_global").solve(m)
    x = np.array([v.value for v in m.x.values()])
    assert x[1:] == pytest.approx(0.05 * np.arange(1, 11))
    assert m.net.outputs[0].value == pytest.approx(m.net.network.evaluate(x)[0])


def test_a_constant_outside_of_its_box_is_named():
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(2), bounds=(0, 4))
    m.row = pyo.Constraint(expr=m.x[0] == 3)
    m.net = ReLUNetBlock(
        network=he_network(0, (2, 4, 1)), inputs=m.x, input_bounds=(0, 2), formulation=None
    )
    m.cost = pyo.Objective(expr=m.net.outputs[0])
    assert "input 0 of 'net' is 3" in read_problem(m).infeasible


def test_a_recycle_is_opened_where_it_comes_back():
    m = pyo.ConcreteModel()
    m.feed = pyo.Var(bounds=(0.1, 1))
    m.a, m.b = (pyo.Var(range(4), bounds=(-5, 5)) for _ in range(2))
    m.u = pyo.Var(range(4), bounds=(-1, 1))
    m.net = ReLUNetBlock(
        range(4),
        network=he_network(0, (3, 4, 2)),
        inputs=lambda m, k: [m.a[k], m.b[k], m.u[k]],
        formulation=None,
    )

    @m.Constraint(range(3))
    def on(m, k):
        return m.a[k + 1] == m.a[k] - 0.3 * m.net[k].outputs[0]

    @m.Constraint(range(3))
    def made(m, k):
        return m.b[k + 1] == m.b[k] + 0.3 * m.net[k].outputs[0]

    back = [m.net[2].outputs[k] + m.net[3].outputs[k] for k in range(2)]
    m.mix_a = pyo.Constraint(expr=m.a[0] == m.feed + 0.2 * back[0])
    m.mix_b = pyo.Constraint(expr=m.b[0] == 0.2 * back[1])
    m.cost = pyo.Objective(expr=m.a[3] + m.b[3])
    view = read_problem(m).for_points()
    assert names(view) == ["a[0]", "b[0]", "u[0]", "u[1]", "u[2]", "u[3]"]
