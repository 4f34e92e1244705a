"""Each part of the search for a start on a model where the others do worse without it.

Searches end by their patience here, not by the clock, so results are the same everywhere.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyomo.environ as pyo
import pytest
from pyomo.contrib.solver.common.factory import SolverFactory as NewFactory

from pyomo_relu import Network, NetworkBuilder, ReLUNetBlock, activations, find_start
from pyomo_relu.base.deadline import Deadline
from pyomo_relu.heuristics import linear_model, samples, start
from pyomo_relu.heuristics.sequential import SequentialSearch
from pyomo_relu.heuristics.start_settings import SEARCHES, SEQUENTIAL, START
from pyomo_relu.presolve.reading import read_problem
from tests.harness.random_networks import he_network

pytest.importorskip("highspy")
#: CPU seconds that no search here needs.
ENOUGH = 60.0


def found_by(monkeypatch, m: pyo.ConcreteModel, searches: frozenset[str]) -> float | None:
    """The value of a start from no values, by some searches alone."""
    monkeypatch.setattr(start, "START", replace(START, searches=searches))
    for v in m.component_data_objects(pyo.Var):
        v.set_value(None)
    found = find_start(m, ENOUGH)
    assert found.seconds < 3 * ENOUGH
    return found.value if found.feasible else None


def best_of_three() -> pyo.ConcreteModel:
    """The objective reaches the network through rows, of which binaries choose one."""
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(5), bounds=(-1, 1))
    m.one_of = pyo.Var(range(3), domain=pyo.Binary)
    m.net = ReLUNetBlock(network=he_network(6, (5, 10, 10, 3)), inputs=m.x)
    m.worth = pyo.Var(bounds=(-50, 50))
    m.one = pyo.Constraint(expr=pyo.quicksum(m.one_of.values()) == 1)
    m.most = pyo.Constraint(
        range(3), rule=lambda m, k: m.worth <= m.net.outputs[k] + 50 * (1 - m.one_of[k])
    )
    m.obj = pyo.Objective(expr=m.worth, sense=pyo.maximize)
    return m


def worst_of_two() -> pyo.ConcreteModel:
    """A mixture whose worse one of two outputs shall be good."""
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(5), bounds=(-1, 1))
    m.net = ReLUNetBlock(network=he_network(1, (5, 10, 10, 2)), inputs=m.x)
    m.mix = pyo.Constraint(expr=pyo.quicksum(m.x.values()) == 0.7)
    m.worth = pyo.Var(bounds=(-99, 99))
    m.most = pyo.Constraint([0, 1], rule=lambda m, k: m.worth <= m.net.outputs[k])
    m.obj = pyo.Objective(expr=m.worth, sense=pyo.maximize)
    return m


#: Proved by HiGHS on big-M; a slow test does so again.
OPTIMA = {"best_of_three": 4.756317, "worst_of_two": 0.226061}


@pytest.mark.slow
@pytest.mark.parametrize("make", [best_of_three, worst_of_two])
def test_the_optima_are_those_of_highs(make):
    m = make()
    best = NewFactory("relu_highs").solve(m, start=None, rel_gap=1e-6)
    assert best.objective_bound == pytest.approx(OPTIMA[make.__name__], rel=1e-5)


@pytest.mark.parametrize(
    "make, search",
    [
        (best_of_three, "region walks"),
        (best_of_three, "neighbourhoods"),
        (best_of_three, "relax and walk"),
        (worst_of_two, "sequences"),
    ],
)
def test_without_one_search_the_others_do_worse(make, search, monkeypatch):
    m = make()
    with_all = found_by(monkeypatch, m, SEARCHES)
    without = found_by(monkeypatch, m, SEARCHES - {search})
    assert with_all == pytest.approx(OPTIMA[make.__name__], rel=1e-4)
    assert without is None or without < with_all - 1e-3


def test_gradient_paths_alone_are_close_and_nothing_is_found_by_nobody(monkeypatch):
    """On boxes they alone need no linear program; elsewhere they are where walks begin."""
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(6), bounds=(-1, 1))
    m.net = ReLUNetBlock(network=he_network(4, (6, 12, 12, 1)), inputs=m.x)
    m.obj = pyo.Objective(expr=m.net.outputs[0], sense=pyo.maximize)
    assert found_by(monkeypatch, m, frozenset()) is None
    paths = found_by(monkeypatch, m, frozenset(["gradient paths"]))
    optimum = NewFactory("relu_highs").solve(m, time_limit=600).incumbent_objective
    assert paths == pytest.approx(optimum, rel=1e-3)


def bumps(centres: list[float], width: float) -> Network:
    """The sum of a hat of height 1 for each input, 0 outside of a width."""
    b, n = NetworkBuilder(), len(centres)
    x = b.input("x", (n,))
    side = np.repeat(np.eye(n), 3, axis=0)
    ends = np.array([c + d for c in centres for d in (-width, 0.0, width)])
    r = b.piecewise("r", b.affine("h", [(x, side)], -ends), activations.relu())
    weights = np.tile(np.array([1.0, -2.0, 1.0]) / width, n)
    return b.build([b.affine("y", [(r, weights[None])], 0.0)])


def searched(m: pyo.ConcreteModel, programs: int) -> SequentialSearch:
    """Sequences until there is a point, or so many programs were solved."""
    problem = read_problem(m)
    search = SequentialSearch(problem, lambda z: None, Deadline())
    for _ in search.steps():
        if search.point is not None or search.programs >= programs:
            break
    return search


def grid_of_prices() -> pyo.ConcreteModel:
    """Three prices of eleven each; a single combination is good enough."""
    ways, n = [k / 10 for k in range(11)], 3
    m = pyo.ConcreteModel()
    m.z = pyo.Var(range(n), range(11), domain=pyo.Binary)
    m.p = pyo.Var(range(n), bounds=(0, 1))
    m.slack = pyo.Var(bounds=(0, 1))
    m.net = ReLUNetBlock(network=bumps([0.8, 0.1, 0.7], 0.04), inputs=m.p)
    m.one = pyo.Constraint(
        range(n), rule=lambda m, i: sum(m.z[i, k] for k in range(11)) == 1
    )
    m.price = pyo.Constraint(
        range(n), rule=lambda m, i: m.p[i] == sum(ways[k] * m.z[i, k] for k in range(11))
    )
    m.good = pyo.Constraint(expr=m.net.outputs[0] + 0.5 * m.slack >= 2.9)
    m.obj = pyo.Objective(expr=sum(m.p.values()) + m.slack)
    return m


def test_choices_see_beyond_flat_derivatives(monkeypatch):
    """At each price the network is flat, or at its tip; 1,331 combinations say nothing."""
    found = searched(grid_of_prices(), 60)
    assert found.point is not None and found.programs <= 20
    monkeypatch.setattr(linear_model, "find_choices", lambda problem: [])
    assert searched(grid_of_prices(), 60).point is None


def needle() -> pyo.ConcreteModel:
    """Few points are good enough, and from most others nothing leads there."""
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(2), bounds=(0, 1))
    m.net = ReLUNetBlock(network=bumps([0.83, 0.21], 0.15), inputs=m.x)
    m.good = pyo.Constraint(expr=m.net.outputs[0] >= 1.5)
    m.obj = pyo.Objective(expr=m.x[0] + m.x[1])
    return m


def test_samples_find_where_to_begin(monkeypatch):
    found = searched(needle(), 200)
    assert found.point is not None and found.programs < 50
    one = replace(SEQUENTIAL, fewest_samples=1, most_samples=1)
    monkeypatch.setattr(samples, "SEQUENTIAL", one)
    assert searched(needle(), 200).point is None
