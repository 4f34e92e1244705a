"""Networks made linear at a point: slopes, choices, chains, and how rows are kept."""

from __future__ import annotations

import numpy as np
import pyomo.environ as pyo
import pytest

from pyomo_relu import ReLUNetBlock
from pyomo_relu.heuristics.linear_model import LinearModel
from pyomo_relu.presolve.reading import read_problem
from tests.harness.random_networks import he_network


def chain(seed: int = 0) -> pyo.ConcreteModel:
    """Two blocks of one network, side by side, and one that reads them and a variable."""
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(4), bounds=(-1, 1))
    small = he_network(seed, (2, 6, 2))
    m.a = ReLUNetBlock(network=small, inputs=[m.x[0], m.x[1]])
    m.b = ReLUNetBlock(network=small, inputs=[m.x[1] - 0.5, m.x[2]])
    inputs = [m.a.outputs[0] + m.b.outputs[1], 0.3 * m.x[3] + m.a.outputs[1]]
    m.c = ReLUNetBlock(
        network=he_network(seed + 1, (2, 6, 1)), inputs=inputs, input_bounds=[(-9, 9)] * 2
    )
    m.row = pyo.Constraint(expr=m.a.outputs[0] + m.x[3] >= -5)
    m.obj = pyo.Objective(expr=m.c.outputs[0] + m.x[0])
    return m


def solved(model: LinearModel, tangent, moved: np.ndarray) -> np.ndarray:
    """The outputs that the linear functions give at other drivers."""
    n = model.problem.n
    known = moved[:n]
    unknown = tangent.matrix[:, n:].toarray()
    used = np.flatnonzero(abs(unknown).sum(axis=0))
    right = tangent.right - tangent.matrix[:, :n] @ known
    found = np.zeros(model.n_columns)
    found[:n] = known
    found[n + used] = np.linalg.solve(unknown[:, used], right)
    return found


@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_networks_at_the_point_and_close_by(seed):
    m = chain(seed)
    problem = read_problem(m)
    model = LinearModel(problem)
    x = np.random.default_rng(seed).uniform(-1, 1, problem.n)
    tangent = model.tangent(x)
    assert tangent.matrix @ tangent.point == pytest.approx(tangent.right)
    near = x + 1e-7
    assert solved(model, tangent, near) == pytest.approx(model.at(near), abs=1e-12)
    assert tangent.point[problem.n : problem.n + problem.q] == pytest.approx(
        problem.outputs(x[None])[0]
    )


def choosing() -> pyo.ConcreteModel:
    """Inputs: one of three binaries, a price of a grid, a binary alone, a free one."""
    m = pyo.ConcreteModel()
    m.z, m.w = (pyo.Var(range(3), domain=pyo.Binary) for _ in range(2))
    m.b = pyo.Var(domain=pyo.Binary)
    m.p, m.x = pyo.Var(bounds=(0, 3)), pyo.Var(bounds=(-1, 1))
    inputs = [*m.z.values(), m.p, m.b, m.x]
    m.net = ReLUNetBlock(network=he_network(3, (6, 12, 2)), inputs=inputs)
    m.one = pyo.Constraint(expr=sum(m.z.values()) == 1)
    m.most = pyo.Constraint(expr=sum(m.w.values()) <= 1)
    m.price = pyo.Constraint(expr=m.p == 1 + 0.5 * m.w[1] + 2 * m.w[2])
    m.obj = pyo.Objective(expr=m.net.outputs[0] - m.net.outputs[1])
    return m


def test_each_choice_alone_is_exact():
    """Where one choice changes, the linear functions are the networks' own values."""
    problem = read_problem(choosing())
    model = LinearModel(problem)
    names = [v.name for v in problem.columns]
    base = dict.fromkeys(names, 0.0) | {"z[1]": 1.0, "p": 1.0, "x": 0.4}
    x = np.array([base[name] for name in names[: problem.n]])
    tangent = model.tangent(x)
    moves: list[dict[str, float]] = [
        {},
        {"z[1]": 0.0, "z[2]": 1.0},
        {"w[1]": 1.0, "p": 1.5},
        {"w[2]": 1.0, "p": 3.0},
        {"b": 1.0},
    ]
    for move in moves:
        point = np.zeros((1, model.n_columns))
        point[0, : len(names)] = [(base | move)[name] for name in names]
        point = model.roll_out(point)[0]
        assert tangent.matrix @ point == pytest.approx(tangent.right), move


def test_bounds_of_outputs_that_say_something_are_rows_that_may_be_broken():
    m = chain()
    m.a.outputs[0].setub(0.1)
    model = LinearModel(read_problem(m))
    point = model.at(np.array([v.value or 0.9 for v in model.problem.columns[:4]]))
    assert model.soft.all() and len(model.soft) == 4  # two are boxes of inputs
    too_much = max(0.0, point[4] - 0.1)
    assert model.broken(point) == pytest.approx(too_much)


def test_outputs_that_nobody_uses_have_no_column():
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(2), bounds=(-1, 1))
    m.net = ReLUNetBlock(network=he_network(0, (2, 6, 40)), inputs=m.x)
    m.after = ReLUNetBlock(
        network=he_network(1, (1, 4, 1)), inputs=[m.net.outputs[7]], input_bounds=(-50, 50)
    )
    m.obj = pyo.Objective(expr=m.net.outputs[3] + m.after.outputs[0])
    model = LinearModel(read_problem(m))
    tangent = model.tangent(np.array([0.2, -0.4]))
    assert tangent.matrix.shape[0] == 3  # two of the first block, one of the second
    assert tangent.matrix @ tangent.point == pytest.approx(tangent.right)


def test_a_network_that_nobody_reads_is_left_out():
    m = chain()
    m.idle = ReLUNetBlock(network=he_network(5, (1, 4, 2)), inputs=[m.x[0]])
    model = LinearModel(read_problem(m))
    assert len(model.batches) == 2
    x = np.full(model.problem.n, 0.3)
    assert model.at(x)[: len(x)] == pytest.approx(x)
