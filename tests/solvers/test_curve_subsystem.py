"""Subsystems of one input: exact prices at breakpoints, bounds that hold, the master's hull."""

from __future__ import annotations

import numpy as np
import pyomo.environ as pyo
import pytest
from pyomo.contrib.solver.common.factory import SolverFactory as NewFactory

from pyomo_relu import NetworkBuilder, ReLUNetBlock, activations
from pyomo_relu.presolve.reading import read_problem
from pyomo_relu.solvers.global_search import curve_subsystem
from pyomo_relu.solvers.global_search.curve_subsystem import (
    CurveSubsystem,
    make_subsystem,
)
from pyomo_relu.solvers.global_search.subsystems import (
    CellSubsystem,
    Prices,
    find_subsystems,
    links_of,
)
from tests.harness.random_networks import he_network, random_network

pytest.importorskip("highspy")


def shares(networks, budget: float = 1.0) -> pyo.ConcreteModel:
    """A budget among networks of one free input and one constant."""
    m = pyo.ConcreteModel()
    k = range(len(networks))
    m.x = pyo.Var(k, bounds=(-1, 1.5))
    m.net = ReLUNetBlock(
        k,
        network=dict(enumerate(networks)),
        inputs=lambda m, i: [m.x[i], 0.1 * i],
        formulation=None,
    )
    m.budget = pyo.Constraint(expr=sum(m.x.values()) <= budget)
    m.obj = pyo.Objective(expr=sum(m.net[i].outputs[0] for i in k), sense=pyo.maximize)
    return m


def subsystems(m: pyo.ConcreteModel):
    p = read_problem(m)
    groups = find_subsystems(p)
    return [make_subsystem(p, *g, k, 12) for g, k in zip(groups, links_of(p, groups))]


@pytest.mark.parametrize("seed", range(6))
def test_prices_are_exact(seed):
    """Against ten thousand points: no lower cost, and the bound is no farther than 1e-7."""
    rng = np.random.default_rng(seed)
    network = random_network(rng, n_inputs=2, widths=(7, 6), n_outputs=2)
    m = shares([network, network])
    m.second = pyo.Constraint(expr=m.net[0].outputs[1] + m.net[1].outputs[1] <= 1e3)
    for u in subsystems(m):
        assert isinstance(u, CurveSubsystem)
        for _ in range(4):
            low, high = np.sort(rng.uniform(-1, 1.5, 2))
            g, v = rng.normal(size=1), rng.normal(size=len(u.outputs))
            priced = u.price(Prices(g, v, np.array([low]), np.array([high])), 1e-3)
            x = np.linspace(low, high, 10_000)[:, None]
            costs = x @ g + u.evaluate(x) @ v
            size = 1.0 + abs(costs).max()
            assert priced.value <= costs.min() + 1e-9 * size
            assert priced.value - 1e-6 * size <= priced.bound <= costs.min()
            assert low <= priced.x[0] <= high
            assert priced.value == pytest.approx(
                float(priced.x @ g + u.evaluate(priced.x[None])[0] @ v)
            )


def test_cells_where_a_curve_does_not_serve(monkeypatch):
    whole = shares([he_network(0, (2, 6, 1))] * 2)
    for x in whole.x.values():
        x.domain = pyo.Integers
    b = NetworkBuilder()
    h = b.affine("h", [(b.input("x", (2,)), np.ones((1, 2)))])
    step = b.build([b.piecewise("s", h, activations.step())])
    for m in (whole, shares([step, step])):
        assert all(isinstance(u, CellSubsystem) for u in subsystems(m))
    many = shares([he_network(1, (2, 20, 1))] * 2)
    assert all(isinstance(u, CurveSubsystem) for u in subsystems(many))
    few = curve_subsystem.CELLS.__class__(most_pieces=2)
    monkeypatch.setattr(curve_subsystem, "CELLS", few)
    assert all(isinstance(u, CellSubsystem) for u in subsystems(many))


def test_where_rounding_moves_the_curve_cells_serve(monkeypatch):
    m = shares([he_network(1, (2, 20, 1))] * 2)
    strict = curve_subsystem.CELLS.__class__(curve_off=1e-16)
    monkeypatch.setattr(curve_subsystem, "CELLS", strict)
    assert all(isinstance(u, CellSubsystem) for u in subsystems(m))


@pytest.mark.parametrize("seed", range(3))
def test_the_optimum_is_that_of_highs(seed):
    networks = [he_network(10 * seed + i, (2, 8, 1)) for i in range(6)]
    found = NewFactory("relu_global").solve(shares(networks), rel_gap=1e-5)
    m = shares(networks)
    for block in m.net.values():
        block.reformulate("bigm")
    other = NewFactory("relu_highs").solve(m, rel_gap=1e-6, start=None)
    assert found.incumbent_objective == pytest.approx(other.incumbent_objective, rel=2e-5)
    assert found.objective_bound >= other.incumbent_objective - 1e-6


def test_blocks_of_each_subsystem():
    m = shares([he_network(i, (2, 4, 1)) for i in range(3)])
    m.after = ReLUNetBlock(
        network=he_network(7, (1, 4, 1)),
        inputs=[m.net[1].outputs[0]],
        input_bounds=(-50, 50),
        formulation=None,
    )
    m.more = pyo.Constraint(expr=m.after.outputs[0] <= 1e3)
    p = read_problem(m)
    groups = find_subsystems(p)
    names = [[link.block.name for link in links] for links in links_of(p, groups)]
    assert names == [["net[0]"], ["net[1]", "after"], ["net[2]"]]
