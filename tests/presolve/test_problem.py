"""A model as networks and a mixed-integer rest."""

from __future__ import annotations

import numpy as np
import pyomo.environ as pyo
import pytest

from pyomo_relu import ReLUNetBlock
from pyomo_relu.presolve.reading import read_problem
from tests.harness.random_networks import he_network

pytest.importorskip("highspy")


def test_blocks_fed_by_blocks_and_expressions_compose():
    rng = np.random.default_rng(4)
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(3), bounds=(-1, 1))
    m.x[2].fix(0.3)
    m.a = ReLUNetBlock(
        network=he_network(0, (2, 5, 2)), inputs=[m.x[0], 0.4], formulation="bigm"
    )
    m.b = ReLUNetBlock(
        network=he_network(1, (3, 5, 1)),
        inputs=[m.a.outputs[1], 2 * m.x[1] - 0.5 * m.x[0] + 1, m.x[2]],
        formulation="bigm",
    )
    m.obj = pyo.Objective(expr=m.b.outputs[0] + m.a.outputs[0])
    p = read_problem(m)
    assert p.n == 2 and p.q == 2 and p.is_box
    x = rng.uniform(-1, 1, (50, 2))
    names = [v.name for v in p.columns]
    a = m.a.network.evaluate(np.column_stack([x[:, names.index("x[0]")], np.full(50, 0.4)]))
    inner = np.column_stack(
        [
            a[:, 1],
            2 * x[:, names.index("x[1]")] - 0.5 * x[:, names.index("x[0]")] + 1,
            np.full(50, 0.3),
        ]
    )
    b = m.b.network.evaluate(inner)
    y = p.outputs(x)
    assert y[:, names.index("a.outputs[0]") - 2] == pytest.approx(a[:, 0])
    assert y[:, names.index("b.outputs[0]") - 2] == pytest.approx(b[:, 0])
    assert m.a.component("layer").active


def test_rows_that_use_the_same_combination_share_a_query():
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(2), bounds=(-1, 1))
    m.net = ReLUNetBlock(network=he_network(0, (2, 5, 3)), inputs=m.x, formulation="bigm")
    y = m.net.outputs
    m.a = pyo.Constraint(expr=2 * y[0] - 4 * y[2] + m.x[0] <= 1)
    m.b = pyo.Constraint(expr=-y[0] + 2 * y[2] <= 2 + m.x[1])
    m.c = pyo.Constraint(expr=-3 * y[1] + m.x[0] <= 5)
    m.obj = pyo.Objective(expr=y[0] - 2 * y[2])
    p = read_problem(m)
    # Three outputs and one combination, whatever its factor and sign.
    assert p.n_queries == 4 == p.network.n_outputs
    values = p.network.evaluate(np.array([[0.3, -0.2]]))[0]
    outputs = p.outputs(np.array([[0.3, -0.2]]))[0]
    parts = p.matrix[:, p.n : p.n + p.q] @ outputs
    assert p.row_weight * values[p.row_query] == pytest.approx(parts)
    cost = p.cost[p.n : p.n + p.q] @ outputs
    assert p.cost_weight * values[p.cost_query] == pytest.approx(cost)
