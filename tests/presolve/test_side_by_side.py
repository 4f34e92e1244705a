"""Blocks of one network side by side: as many nodes as one block, the values of each."""

from __future__ import annotations

import numpy as np
import pyomo.environ as pyo
import pytest

from pyomo_relu import NetworkBuilder, ReLUNetBlock, activations
from pyomo_relu.network import Network
from pyomo_relu.presolve.compose import side_by_side
from pyomo_relu.presolve.reading import read_problem
from tests.harness.random_networks import he_network


def with_maxima(seed: int) -> Network:
    """Maxima of pairs, steps and ReLUs, biases and two outputs."""
    rng = np.random.default_rng(seed)
    b = NetworkBuilder()
    x = b.input("x", (2,))
    h = b.affine("h", [(x, rng.normal(size=(6, 2)))], rng.normal(size=6))
    top = b.max("top", h, [[0, 1], [2, 3], [4, 5]], (3,))
    r = b.piecewise("r", top, activations.leaky_relu(0.1))
    last = b.affine("y", [(r, rng.normal(size=(2, 3))), (x, np.eye(2))], rng.normal(size=2))
    return b.build([last])


def shared(network: Network, count: int) -> pyo.ConcreteModel:
    """Blocks on neighbours of a row of variables, a block that reads two of them."""
    m = pyo.ConcreteModel()
    m.i = pyo.RangeSet(0, count - 1)
    m.x = pyo.Var(range(count + 1), bounds=(-1, 1))
    m.net = ReLUNetBlock(
        m.i, network=network, inputs=lambda m, i: [m.x[i], m.x[i + 1]], formulation=None
    )
    m.last = ReLUNetBlock(
        network=network,
        inputs=[m.net[0].outputs[0], m.net[count - 1].outputs[1]],
        input_bounds=[(-50, 50)] * 2,
        formulation=None,
    )
    m.sum = pyo.Constraint(expr=sum(m.net[i].outputs[0] for i in m.i) <= 1e3)
    m.obj = pyo.Objective(expr=m.last.outputs[0] + m.net[1].outputs[1])
    return m


@pytest.mark.parametrize("network", [he_network(1, (2, 5, 4, 2)), with_maxima(2)])
@pytest.mark.parametrize("count", [2, 9])
def test_values_are_those_of_each_block(network, count):
    problem = read_problem(shared(network, count))
    x = np.random.default_rng(count).uniform(-1, 1, (20, problem.n))
    found = problem.outputs(x)
    assert problem.q > count
    for row, point in zip(found, x):
        values = {id(v): a for v, a in zip(problem.columns, point.tolist())}
        for link in problem.links:
            u = [
                one.constant + sum(a * values[key] for key, a in one.terms.items())
                for one in link.inputs
            ]
            y = link.block.network.evaluate(np.array(u))
            values.update((id(v), a) for v, a in zip(link.outputs, y.tolist()))
        outputs = problem.columns[problem.n : problem.n + problem.q]
        assert row == pytest.approx([values[id(v)] for v in outputs], rel=1e-12)


def test_nodes_do_not_grow_with_the_blocks():
    network = he_network(1, (2, 5, 4, 2))
    sizes = [len(read_problem(shared(network, k)).network.nodes) for k in (8, 40)]
    assert sizes[0] == sizes[1]


def test_large_networks_keep_their_nodes():
    few = read_problem(shared(he_network(1, (2, 64, 64, 2)), 8)).network
    many = read_problem(shared(he_network(1, (2, 64, 64, 2)), 16)).network
    assert len(many.nodes) > len(few.nodes)


def test_who_reads_another_comes_later():
    links = read_problem(shared(he_network(0, (2, 4, 2)), 5)).links
    groups = side_by_side(links)
    assert [len(group) for group in groups] == [5, 1]


def test_many_points_are_evaluated_in_parts(monkeypatch):
    from pyomo_relu.presolve import problem as module

    problem = read_problem(shared(he_network(3, (2, 5, 2)), 4))
    x = np.random.default_rng(0).uniform(-1, 1, (50, problem.n))
    whole = problem.outputs(x)
    monkeypatch.setattr(module, "MOST_VALUES", 100)
    assert problem.outputs(x) == pytest.approx(whole, rel=1e-12)
    assert problem.outputs(x[:0]).shape == (0, problem.q)
