"""Networks as functions of a problem's columns: what they read, what they write."""

from __future__ import annotations

import numpy as np
import pyomo.environ as pyo
import pytest

from pyomo_relu import ReLUNetBlock
from pyomo_relu.presolve.functions import separate
from pyomo_relu.presolve.reading import read_problem
from tests.harness.random_networks import he_network
from tests.presolve.random_wired import random_wired


def chain_of_outputs() -> pyo.ConcreteModel:
    """Two blocks on the same inputs, and a third one that reads an output directly."""
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(2), bounds=(-1, 1))
    m.z = pyo.Var(range(4), domain=pyo.Binary)
    inputs = [m.x[0], m.x[1]]
    m.a = ReLUNetBlock(network=he_network(0, (2, 4, 2)), inputs=inputs)
    m.b = ReLUNetBlock(network=he_network(1, (2, 5, 1)), inputs=inputs)
    level = sum((k + 1) * 0.25 * m.z[k] for k in range(4)) - 0.5
    m.c = ReLUNetBlock(
        network=he_network(2, (2, 4, 1)),
        inputs=[0.5 * m.a.outputs[1], level],
    )
    m.one = pyo.Constraint(expr=m.z[0] + m.z[1] + m.x[0] <= 1)
    m.obj = pyo.Objective(expr=m.c.outputs[0] + m.b.outputs[0])
    return m


def test_outputs_between_blocks_and_sums_have_columns():
    p = read_problem(chain_of_outputs())
    found = separate(p)
    assert [f.name for f in found.functions] == ["a", "b", "c"]
    first, second, last = found.functions
    assert first.inputs.tolist() == second.inputs.tolist()
    added = set(range(len(p.columns), len(found.program.lower)))
    # The output that only a block reads, and the sum of four binaries.
    assert len(added) == 2 and added == set(last.inputs.tolist())
    assert added & set(first.outputs.tolist())
    found.bound_sums()
    ((sum_column, columns, weights, constant),) = found.sums
    assert sum_column in added and len(columns) == 4 and constant == -0.5
    assert found.program.lower[sum_column] == -0.5
    assert found.program.upper[sum_column] == pytest.approx(2.0)
    assert len(found.program.row_lower) == len(p.row_lower) + 1
    assert sorted(weights.tolist()) == [0.25, 0.5, 0.75, 1.0]


def test_a_network_that_reads_another_by_way_of_a_sum_comes_after_it():
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(3), bounds=(-1, 1))
    m.a = ReLUNetBlock(network=he_network(0, (1, 4, 1)), inputs=[m.x[0]])
    m.a.outputs[0].setlb(None)
    m.a.outputs[0].setub(None)
    total = m.a.outputs[0] + m.x[1] + 0.5 * m.x[2]
    m.b = ReLUNetBlock(
        network=he_network(1, (1, 4, 1)), inputs=[total], input_bounds=(-30, 30)
    )
    m.obj = pyo.Objective(expr=m.b.outputs[0])
    found = separate(read_problem(m))
    assert [[f.name for f in level] for level in found.levels()] == [["a"], ["b"]]


@pytest.mark.parametrize("seed", range(12))
def test_functions_say_what_the_whole_network_says(seed):
    p = read_problem(random_wired(seed))
    if p.infeasible:
        return
    found, rng = separate(p), np.random.default_rng(seed)
    low, high = p.box
    written = [f.outputs for f in found.functions]
    together = np.concatenate([np.zeros(0, dtype=int), *written])
    assert len(set(together.tolist())) == len(together)
    assert set(range(p.n, p.n + p.q)) <= set(together.tolist())
    for _ in range(5):
        z = np.zeros((1, len(p.columns)))
        z[0, : p.n] = low + rng.random(p.n) * (high - low)
        p.complete(z)
        every = found.complete(z[0])
        assert every[: len(p.columns)].tolist() == z[0].tolist()
        for f in found.functions:
            y = f.network.evaluate(every[f.inputs])
            np.testing.assert_allclose(every[f.outputs], y, rtol=1e-9, atol=1e-9)
        own = found.program.matrix[len(p.row_lower) :] @ every
        rows = found.program.row_lower[len(p.row_lower) :]
        np.testing.assert_allclose(own, rows, atol=1e-9)
