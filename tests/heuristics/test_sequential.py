"""Sequences of linear programs: models on which the other heuristics find nothing."""

from __future__ import annotations

import math

import numpy as np
import pyomo.environ as pyo
import pytest
from pyomo.contrib.solver.common.factory import SolverFactory as NewFactory

from pyomo_relu import ReLUNetBlock, find_start
from pyomo_relu.base.deadline import NEVER, Deadline
from pyomo_relu.formulations import network_blocks
from pyomo_relu.heuristics.sequential import SequentialSearch
from pyomo_relu.heuristics.start import StartSearch, read_wired
from pyomo_relu.presolve.reading import read_problem
from tests.harness.clock import Looks
from tests.harness.random_networks import he_network
from tests.paths import ROOT

pytest.importorskip("highspy")


def states(seed: int = 0, steps: int = 8) -> pyo.ConcreteModel:
    """A chain whose states are variables, tied to the step before by equalities."""
    m = pyo.ConcreteModel()
    m.t = pyo.RangeSet(0, steps - 1)
    m.x = pyo.Var(range(steps + 1), range(2), bounds=(-2, 2))
    m.u = pyo.Var(m.t, bounds=(-1, 1))
    m.step = ReLUNetBlock(
        m.t,
        network=he_network(seed, (3, 10, 2)),
        inputs=lambda m, t: [m.x[t, 0], m.x[t, 1], m.u[t]],
    )
    m.x[0, 0].fix(0.3)
    m.x[0, 1].fix(-0.4)
    m.next = pyo.Constraint(
        m.t, range(2), rule=lambda m, t, k: m.x[t + 1, k] == 0.4 * m.step[t].outputs[k]
    )
    m.size = pyo.Var(range(2), bounds=(0, 9))
    m.up = pyo.Constraint(range(2), rule=lambda m, k: m.size[k] >= m.x[steps, k])
    m.down = pyo.Constraint(range(2), rule=lambda m, k: m.size[k] >= -m.x[steps, k])
    m.obj = pyo.Objective(expr=m.size[0] + m.size[1])
    return m


def routing(seed: int = 0) -> pyo.ConcreteModel:
    """Wells that binaries route to one of two pressures, within a capacity of each."""
    rng = np.random.default_rng(seed)
    wells, ways = range(5), range(2)
    m = pyo.ConcreteModel()
    m.to = pyo.Var(wells, ways, domain=pyo.Binary)
    m.rate = pyo.Var(wells, ways, bounds=(0, 4))
    m.p, m.gas = pyo.Var(wells, bounds=(0, 1)), pyo.Var(wells, bounds=(-1, 1))
    m.well = ReLUNetBlock(
        wells, network=he_network(seed, (2, 8, 1)), inputs=lambda m, w: [m.gas[w], m.p[w]]
    )
    m.pressure = pyo.Constraint(wells, rule=lambda m, w: m.p[w] == 0.2 + 0.6 * m.to[w, 1])
    m.one = pyo.Constraint(wells, rule=lambda m, w: m.to[w, 0] + m.to[w, 1] == 1)
    m.only = pyo.Constraint(
        wells, ways, rule=lambda m, w, k: m.rate[w, k] <= 4 * m.to[w, k]
    )
    m.gives = pyo.Constraint(
        wells, rule=lambda m, w: m.rate[w, 0] + m.rate[w, 1] == m.well[w].outputs[0] + 1.5
    )
    m.most = pyo.Constraint(ways, rule=lambda m, k: sum(m.rate[w, k] for w in wells) <= 5)
    weights = rng.uniform(0.5, 1.5, 5).tolist()
    m.obj = pyo.Objective(
        expr=sum(weights[w] * m.rate[w, k] for w in wells for k in ways),
        sense=pyo.maximize,
    )
    return m


def recycle() -> pyo.ConcreteModel:
    """Two blocks whose inputs are variables that equalities tie to each other's outputs."""
    m = pyo.ConcreteModel()
    m.a, m.b = (pyo.Var(range(2), bounds=(-2, 2)) for _ in range(2))
    m.u = pyo.Var(bounds=(-1, 1))
    m.first = ReLUNetBlock(network=he_network(4, (3, 8, 2)), inputs=[m.a[0], m.a[1], m.u])
    m.second = ReLUNetBlock(network=he_network(5, (2, 8, 2)), inputs=[m.b[0], m.b[1]])
    m.on = pyo.Constraint(range(2), rule=lambda m, k: m.b[k] == m.first.outputs[k] - 0.1)
    m.back = pyo.Constraint(range(2), rule=lambda m, k: m.a[k] == 0.3 * m.second.outputs[k])
    m.obj = pyo.Objective(expr=m.second.outputs[0] + 0.1 * m.u, sense=pyo.maximize)
    return m


def searched(m: pyo.ConcreteModel, starts: int = 6):
    problem = read_problem(m)
    seen: list[np.ndarray] = []
    search = SequentialSearch(problem, seen.append, Deadline())
    search.run(search.deadline, starts)
    return problem, search, seen


@pytest.mark.parametrize("make", [states, routing, recycle])
def test_finds_points_where_the_rows_bind(make):
    m = make()
    problem, search, seen = searched(m)
    assert search.point is not None
    assert problem.violation(search.point) <= 1e-6
    n, q = problem.n, problem.q
    for z in seen:  # whatever the judge sees, its outputs are the networks' own
        assert z[n : n + q] == pytest.approx(problem.outputs(z[None, :n])[0])
    assert search.best == min(
        float(problem.cost @ z) for z in seen if problem.violation(z) <= 1e-6
    )


def test_the_others_find_nothing_in_twice_the_time(monkeypatch):
    """Oil production: routing, rates that balance, pressures that two networks tie."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from wired_models.production import production

    problem = read_wired(production(formulation="bigm"), NEVER)
    search = SequentialSearch(problem, lambda z: None, NEVER)
    search.run(NEVER, patience=0.0)  # to the first point, half a second
    assert search.point is not None and -search.best >= 1.0
    monkeypatch.setattr(StartSearch, "_begin_sequences", lambda self, present: None)
    assert not find_start(production(formulation="bigm"), 1.0).feasible


def test_goes_on_while_highs_runs(monkeypatch):
    """Without time for a start HiGHS asks for one; alone it finds none in half a minute."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from wired_models.production import production

    m, first = production(formulation="bigm"), []

    def progress(now) -> bool:
        first.append(now.incumbent)
        return math.isfinite(now.incumbent)

    results = NewFactory("relu_highs").solve(
        m,
        start_time=1e-3,
        time_limit=600,
        progress=progress,
        raise_exception_on_nonoptimal_result=False,
    )
    assert not math.isfinite(first[0])
    assert results.incumbent_objective >= 1.0
    assert max(b.error() for b in network_blocks(m)) <= 1e-6


@pytest.mark.parametrize("seed", range(3))
def test_close_to_the_optimum_of_a_routing(seed):
    m = routing(seed)
    _, search, _ = searched(m, starts=12)
    results = pyo.SolverFactory("relu_highs").solve(routing(seed), start=None)
    best = results.problem[0].upper_bound
    assert -search.best <= best + 1e-5 * abs(best)
    assert -search.best >= best - 0.02 * abs(best)


def test_pauses_and_goes_on():
    problem = read_problem(states())
    search = SequentialSearch(problem, lambda z: None, Deadline())
    assert search.run(Deadline(0.0)) and search.programs == 0
    while search.point is None:
        assert search.run(Looks(3))
    before = search.programs
    search.run(Looks(10))
    assert search.programs > before


def test_takes_over_a_better_point():
    problem, search, _ = searched(states(), starts=1)
    point, cost = search.point, search.best
    search.learn(point, cost + 1.0)
    assert search.best == cost
    search.learn(point, cost - 1.0)
    assert search.best == cost - 1.0


def test_same_seed_same_points():
    def points():
        _, search, seen = searched(recycle(), 2)
        return seen

    first, second = points(), points()
    assert len(first) == len(second)
    assert all((a == b).all() for a, b in zip(first, second))


def test_an_infeasible_model_has_no_point():
    m = recycle()
    m.never = pyo.Constraint(expr=m.a[0] + m.a[1] >= 5)
    search = SequentialSearch(read_problem(m), lambda z: None, Deadline())
    search.run(Looks(200))
    assert search.point is None and math.isinf(search.best)
