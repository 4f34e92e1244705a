"""relu_scip's bounds over rows, triangles and the best point: nothing better is cut off."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pyomo.environ as pyo
import pytest
from pyomo.contrib.solver.common.factory import SolverFactory as NewFactory

from pyomo_relu.base.deadline import Deadline
from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.presolve.functions import separate
from pyomo_relu.presolve.reading import read_problem
from pyomo_relu.programs import LinearProgram
from pyomo_relu.solvers.global_search.narrowing import Narrowing
from pyomo_relu.solvers.scip import narrowed
from pyomo_relu.solvers.scip.end_game import EndGame
from pyomo_relu.solvers.scip.handler import NetworkHandler
from pyomo_relu.solvers.scip.narrowed import Narrowed
from pyomo_relu.solvers.scip.reach import Reach
from pyomo_relu.solvers.scip.settings import NARROWED
from pyomo_relu.solvers.scip.together import Together
from tests.solvers.planted_models import planted
from tests.solvers.test_scip_end_game import SEEDS
from tests.solvers.test_scip_random import LATE, faults
from tests.solvers.test_scip_sides import diet


def optimum(seed: int) -> tuple[pyo.ConcreteModel, float] | None:
    """A model of several networks at its optimum by HiGHS; None without one."""
    p = planted(seed, "bigm")
    if p.nonlinear:
        return None
    results = NewFactory("highs").solve(
        p.m, rel_gap=1e-9, raise_exception_on_nonoptimal_result=False, load_solutions=False
    )
    if results.termination_condition.name != "convergenceCriteriaSatisfied":
        return None
    results.solution_loader.load_vars()
    return p.m, results.incumbent_objective


def narrowed_by(seed: int) -> float | None:
    """Narrow at the best cost and check that the optimum stays; the ratio of the widths."""
    found = optimum(seed)
    if found is None:
        return None
    m, _ = found
    problem = read_problem(m, Deadline(), "a test", general=True)
    if problem.infeasible or not problem.links:
        return None
    separated = separate(problem, Deadline())
    z = np.array([[v.value for v in problem.columns]])
    problem.complete(z)
    cost = float(problem.cost @ z[0])
    if problem.violation(z[0]) > 1e-6:  # HiGHS's own, at a step or by its tolerances
        return None
    Reach(separated, Deadline())
    what = Narrowing(separated.program, separated.functions, cost, Deadline())
    before = what.width
    what.run()
    whole = separated.complete(z[0])
    room = 2e-6 * (1.0 + abs(whole))
    assert (whole >= what.lower - room).all(), seed
    assert (whole <= what.upper + room).all(), seed
    for f, ranges in zip(separated.functions, what.ranges):
        values = f.network.activations(whole[None, f.inputs])
        for low, high, a in zip(ranges.lows, ranges.highs, values):
            more = 2e-6 * (1.0 + abs(a[0]))
            assert (a[0] >= low - more).all(), (seed, f.name)
            assert (a[0] <= high + more).all(), (seed, f.name)
    return what.width / before if before else None


def test_the_optimum_of_several_networks_stays():
    ratios = [r for seed in range(24) if (r := narrowed_by(seed)) is not None]
    assert len(ratios) >= 5
    assert np.mean(ratios) < 0.9


@pytest.mark.slow
@pytest.mark.parametrize("part", range(10))
def test_the_optima_of_a_thousand_models_stay(part):
    for seed in range(2000 + 100 * part, 2100 + 100 * part):
        narrowed_by(seed)


@pytest.fixture
def always(monkeypatch):
    """Bounds are narrowed at each better point, as far as they go, and no node is a MIP.

    Tests begin without a start: from the best point on there is nothing to lose.
    """
    every = replace(NARROWED, first=1e6, probe=1e6, better=0.0, smaller=1.0)
    monkeypatch.setattr(narrowed, "NARROWED", every)
    monkeypatch.setattr(EndGame, "suits", lambda *parts: False)
    # Diets need their output at its least only: moved, the LP's points would do at once.
    monkeypatch.setattr(NetworkHandler, "_moved", lambda self, wrong, z: (wrong, False))
    asked, plain = [], Narrowed.look

    def look(self, *what):
        asked.append(what)
        return plain(self, *what)

    monkeypatch.setattr(Narrowed, "look", look)
    return asked


@pytest.mark.parametrize("seed", SEEDS)
def test_narrowing_at_every_better_point_loses_no_optimum(seed, always):
    assert set(faults(seed, start=None)) <= {LATE}


@pytest.mark.slow
@pytest.mark.parametrize("part", range(20))
def test_a_thousand_random_models_narrowed(part, always):
    """No wrong answer where every better point narrows all bounds."""
    for seed in range(1000 + 50 * part, 1050 + 50 * part):
        assert set(faults(seed, start=None)) <= {LATE}, seed


@pytest.mark.parametrize("seed", [0, 1])
def test_the_best_cost_narrows_and_the_optimum_is_that_of_rows(seed, always):
    m, other = diet(seed, None), diet(seed, "bigm")
    results = NewFactory("relu_scip").solve(m, start=None, rel_gap=1e-5)
    pyo.SolverFactory("appsi_highs").solve(other)
    best = pyo.value(other.cost)
    assert always
    assert pyo.value(m.cost) == pytest.approx(best, rel=1e-4)
    assert results.objective_bound == pytest.approx(best, rel=1e-4)


def parts_of(m: pyo.ConcreteModel) -> tuple[LinearProgram, Together]:
    problem = read_problem(m, Deadline(), "a test", general=True)
    separated = separate(problem, Deadline())
    networks = Together(separated.functions, Reach(separated, Deadline()).boxes)
    return separated.program, networks


def test_what_is_known_goes_on_where_bounds_are_wider():
    """SCIP takes over what counts only: the next call hands in wider bounds."""
    program, networks = parts_of(diet(0, None))
    other = diet(0, "bigm")
    pyo.SolverFactory("appsi_highs").solve(other)
    best = pyo.value(other.cost)
    what = Narrowed(program, networks)
    whole = program.lower.copy(), program.upper.copy()
    first = list(what.look(*whole, best + 1.0))
    assert not what.is_behind(best + 1.0)
    assert what.is_behind(best)
    second = list(what.look(*whole, best))
    assert [j for j, _, _ in second] == networks.columns.tolist()
    for (_, a, b), (_, c, d) in zip(first, second):
        assert a <= c + 1e-9
        assert d <= b + 1e-9
    assert any(b - a > d - c + 1e-6 for (_, a, b), (_, c, d) in zip(first, second))


def test_planes_begin_with_what_is_narrowed():
    program, networks = parts_of(diet(0, None))
    other = diet(0, "bigm")
    pyo.SolverFactory("appsi_highs").solve(other)
    before = [one.stack.stored[one.position].copy() for one in networks.planes]
    what = Narrowed(program, networks)
    list(what.look(program.lower, program.upper, pyo.value(other.cost)))
    for one, (low, high) in zip(networks.planes, before):
        now = one.stack.stored[one.position]
        assert (now[0] >= low).all()
        assert (now[1] <= high).all()
        assert (now[1] - now[0]).sum() < 0.9 * (high - low).sum()


def test_where_neurons_hardly_get_narrower_all_stays_as_it_was(monkeypatch):
    program, networks = parts_of(diet(0, None))
    monkeypatch.setattr(narrowed, "NARROWED", replace(NARROWED, smaller=0.0))
    before = [one.stack.stored[one.position].copy() for one in networks.planes]
    what = Narrowed(program, networks)
    cutoff = float(program.upper @ abs(program.cost))
    assert list(what.look(program.lower, program.upper, cutoff)) == []
    assert not what.is_behind(cutoff)
    for one, known in zip(networks.planes, before):
        assert (one.stack.stored[one.position] == known).all()


@pytest.mark.parametrize("rows, cost", [(True, True), (False, True), (True, False)])
def test_it_is_asked_where_rows_and_a_cost_say_more_than_the_box(rows, cost):
    """Over the box alone nothing is narrower, and without a cost no point is better."""
    matrix = sp.csr_array(np.ones((int(rows), 2)))
    sides = np.zeros(int(rows)), np.ones(int(rows))
    program = LinearProgram(
        cost * np.ones(2), -np.ones(2), np.ones(2), matrix, *sides, np.zeros(2, dtype=bool)
    )
    asked = Narrowed(program, SimpleNamespace(functions=["a network"]))
    assert asked.is_behind(0.0) == asked.due(0.0, -1.0, 10) == (rows and cost)
