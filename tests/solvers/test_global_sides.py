"""Branch and bound on sides of neurons, and searches that take turns."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pyomo.environ as pyo
import pytest

from pyomo_relu import NetworkBuilder, ReLUNetBlock, activations
from pyomo_relu.analysis import linear_regions
from pyomo_relu.bounds import crown_arrays
from pyomo_relu.presolve.reading import read_problem
from pyomo_relu.sides import tree as side_tree
from pyomo_relu.sides.relu_chain import ReluChain
from pyomo_relu.solvers.global_search.box_search import BoxSearch
from pyomo_relu.solvers.global_search.limits import Limits
from pyomo_relu.solvers.global_search.neuron_search import NeuronSearch
from pyomo_relu.solvers.global_search.race import Race, WholeMIP
from pyomo_relu.solvers.global_search.strategy import choose_search
from tests.harness.random_networks import he_network

pytest.importorskip("highspy")


def model(sizes, seed=0, extra=0.0, domain=pyo.Reals):
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(sizes[0]), bounds=(-1, 1), domain=domain)
    m.net = ReLUNetBlock(network=he_network(seed, sizes), inputs=m.x, formulation=None)
    linear = extra * sum((-1) ** i * x for i, x in m.x.items())
    m.obj = pyo.Objective(expr=m.net.outputs[0] + linear + 3 * extra, sense=pyo.maximize)
    return m


def chain_of(network, n):
    low, high = -np.ones((1, n)), np.ones((1, n))
    lows, highs = crown_arrays(network, low, high)
    return ReluChain(network, [a[0] for a in lows], [a[0] for a in highs], [-1.0])


@pytest.mark.parametrize("depth_first", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_bounds_of_a_tree_hold_in_every_round(seed, depth_first):
    net = he_network(seed, [2, 10, 10, 1])
    exact = -linear_regions(net, -np.ones(2), np.ones(2)).optimum([1.0], "max").value
    tree = side_tree.SideTree(chain_of(net, 2), 4, depth_first)
    assert tree.bound == -math.inf
    points, last = tree.start(), -math.inf
    for _ in range(2000):
        assert tree.bound <= exact + 1e-9
        assert depth_first or tree.bound >= last - 1e-12  # the best bound only rises
        last = tree.bound
        assert (-net.evaluate(points)[:, 0] >= exact - 1e-9).all()
        if not len(tree):
            break
        points = tree.step(exact + 1e-4)
    assert not len(tree)
    # Either the target is reached, or what is left is decided: then it is exact.
    assert tree.bound == pytest.approx(min(exact, exact + 1e-4), abs=2e-4)


def test_little_memory_is_enough():
    net = he_network(1, [4, 12, 12, 1])
    results = []
    for room in (4e8, 0.0):
        chain = chain_of(net, 4)
        chain.settings = replace(chain.settings, most_bytes=room)
        tree = side_tree.SideTree(chain, 8)
        points, best = tree.start(), math.inf
        while len(tree):
            best = min(best, float(-net.evaluate(points).max(initial=-math.inf)))
            points = tree.step(best - 1e-4 * abs(best))
        results.append((best, tree.bound))
    assert results[0][0] == pytest.approx(results[1][0], rel=2e-4)
    assert all(bound >= best - 2e-4 * abs(best) for best, bound in results)


@pytest.mark.parametrize("seed", range(8))
def test_sides_alone_prove_the_optimum(seed):
    """Also with the inputs in the objective, and a constant."""
    sizes, extra = [(8, 8, 8, 1), (6, 10, 10, 1), (12, 8, 6, 1)][seed % 3], 0.3 * (seed % 2)
    m = model(sizes, seed, extra)
    search = NeuronSearch(read_problem(m), Limits())
    assert search.fits(search.problem)
    search.run()
    assert search.stopped is None
    p = search.problem
    value = p.user_objective(search.incumbent.cost)
    bound = p.user_objective(search.bound)
    assert value - 1e-9 <= bound <= value + 1.1e-4 * max(abs(value), 1e-2)
    m.net.reformulate("bigm")
    found = pyo.SolverFactory("relu_highs").solve(m, boxes=0)
    assert str(found.solver.termination_condition) == "optimal"
    assert value == pytest.approx(pyo.value(m.obj), rel=2e-4, abs=1e-5)


def test_what_sides_are_not_for():
    assert not NeuronSearch.fits(read_problem(model((3, 5, 1), domain=pyo.Integers)))
    m = model((3, 5, 1))
    m.row = pyo.Constraint(expr=m.x[0] + m.x[1] <= 1)
    assert not NeuronSearch.fits(read_problem(m))
    m = model((3, 5, 1))
    m.net.outputs[0].setub(0.1)
    assert not NeuronSearch.fits(read_problem(m))
    b = NetworkBuilder()
    x = b.input("x", (2,))
    y = b.piecewise("y", b.affine("a", [(x, np.eye(2))]), activations.leaky_relu(0.1))
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(2), bounds=(-1, 1))
    net = b.build([b.affine("z", [(y, np.ones((1, 2)))])])
    m.net = ReLUNetBlock(network=net, inputs=m.x, formulation=None)
    m.obj = pyo.Objective(expr=m.net.outputs[0])
    assert not NeuronSearch.fits(read_problem(m))


@pytest.mark.parametrize(
    "sizes, kinds",
    [
        ((2, 30, 30, 1), [BoxSearch, NeuronSearch]),
        ((10, 30, 30, 1), [NeuronSearch, BoxSearch]),
        ((12, 8, 8, 1), [NeuronSearch, BoxSearch, WholeMIP]),
        ((40, 8, 8, 1), [NeuronSearch, WholeMIP]),
    ],
)
def test_who_takes_part(sizes, kinds):
    search = choose_search(read_problem(model(sizes)), Limits())
    assert isinstance(search, Race)
    assert [type(part) for part in search.parts] == kinds
    alone = choose_search(read_problem(model(sizes)), Limits(hand_over=False))
    assert type(alone) is BoxSearch


@pytest.mark.parametrize("first", [0, 1, 2])
def test_whoever_is_quickest_proves(first):
    """Turns of one box each: all parts get their turn, and the bound is the best one."""
    problem, limits = read_problem(model((5, 12, 12, 1))), Limits()
    parts = [f(problem, limits) for f in (BoxSearch, NeuronSearch, WholeMIP)]
    parts = parts[first:] + parts[:first]
    race = Race(parts, [1.0, 1.0, 1.0])
    race.run()
    assert race.stopped is None and race.open_boxes == 0
    assert race.incumbent.cost - race.bound <= race.gap + 1e-12
    assert race.bound == min(max(part.bound for part in race.parts), race.incumbent.cost)
    alone = BoxSearch(problem, limits)
    alone.run()
    assert race.incumbent.cost == pytest.approx(alone.incumbent.cost, rel=2e-4)


def test_limits_leave_a_valid_bound():
    m = model((10, 30, 30, 1))
    search = choose_search(read_problem(m), Limits(node_limit=6000))
    search.run()
    assert search.stopped == "nodes" and search.counts.boxes >= 6000
    cost = search.incumbent.cost
    assert search.bound < cost
    assert search.problem.user_objective(search.bound) >= 2.8659
