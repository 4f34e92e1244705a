"""Branch and bound on sides of neurons and on columns, among rows and integers."""

from __future__ import annotations

import math
from dataclasses import replace

import pyomo.environ as pyo
import pytest
from pyomo.contrib.solver.common.factory import SolverFactory as NewFactory

from pyomo_relu import ReLUNetBlock
from pyomo_relu.presolve.reading import read_problem
from pyomo_relu.sides import row_bounds
from pyomo_relu.solvers.global_search.limits import Limits
from pyomo_relu.solvers.global_search.row_side_search import RowSideSearch
from pyomo_relu.solvers.relu import search as together
from pyomo_relu.solvers.relu.solver import networks_search
from pyomo_relu.solvers.relu.turns import Turns
from tests.harness.random_networks import he_network
from tests.solvers.against_rows import by_rows
from tests.solvers.row_models import rows_model

pytest.importorskip("highspy")


def search_of(m: pyo.ConcreteModel, **changes) -> RowSideSearch:
    problem = read_problem(m)
    assert problem.infeasible is None
    search = RowSideSearch(problem, Limits(rel_gap=1e-6, points=True))
    search.settings = replace(row_bounds.SETTINGS, **changes)
    return search


def check(make, seed: int, rounds: int = 5000, **changes) -> str | None:
    """What is wrong in the answer for a model after some rounds; None where nothing is."""
    expected = by_rows(make(seed))
    problem = read_problem(make(seed))
    if expected is None:
        return None
    if problem.infeasible is not None:
        return None if expected == math.inf else "read as infeasible"
    if not RowSideSearch.fits(problem):
        return None
    search = search_of(make(seed), **changes)
    cost = expected
    if math.isfinite(expected):
        cost = (expected - problem.offset) * problem.sign
    size = 1e-5 * max(1.0, abs(cost)) if math.isfinite(cost) else 0.0
    search.begin()
    for _ in range(rounds):
        if search.bound > cost + size:
            return f"bound {search.bound} above {cost}"
        if search.done or search._out_of_limits():
            break
        search.round()
    if not search.proved:
        return f"left open: {search.bound} to {search.incumbent.cost}, {cost}"
    if math.isfinite(cost) and abs(search.incumbent.cost - cost) > size:
        return f"found {search.incumbent.cost}, not {cost}"
    if not math.isfinite(cost) and math.isfinite(search.incumbent.cost):
        return "found a point where there is none"
    return None


@pytest.mark.parametrize("seed", range(20))
def test_random_rows_agree_with_the_mip(seed):
    assert check(rows_model, seed) is None


@pytest.mark.parametrize("seed", range(100, 110))
def test_small_leaves_and_batches_agree_with_the_mip(seed):
    assert check(rows_model, seed, leaf=2, batch=4) is None


@pytest.mark.parametrize("seed", [1086, 1542])
def test_bounds_grow_to_the_end_where_columns_have_shrunk(seed):
    """Columns that move little were halved without end, and open neurons never decided."""
    assert check(rows_model, seed, rounds=60, leaf=4) is None


def large(in_rows: bool, equal: bool = False) -> pyo.ConcreteModel:
    """Twenty inputs, some binary, and a network in the objective or in a row."""
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(18), bounds=(0, 1))
    m.pick = pyo.Var(range(4), domain=pyo.Binary)
    every = [*m.x.values(), *m.pick.values()]
    m.net = ReLUNetBlock(network=he_network(3, [22, 12, 1]), inputs=every)
    m.few = pyo.Constraint(expr=sum(m.pick.values()) <= 2)
    y, cost = m.net.outputs[0], sum((1 + 0.1 * i) * v for i, v in enumerate(every))
    if equal:
        m.level = pyo.Constraint(expr=y + m.x[0] == 0.4)
    elif in_rows:
        m.level = pyo.Constraint(expr=y + m.x[0] >= 0.4)
    m.obj = pyo.Objective(expr=cost if in_rows else y - 0.05 * cost)
    return m


def test_where_it_takes_part():
    """First where outputs cost something, later where rows need them, not in equalities."""
    limits = Limits()
    _, inner = networks_search(read_problem(large(False)), limits, None)
    parts = inner.parts if isinstance(inner, Turns) else [inner]
    assert isinstance(parts[0], RowSideSearch) and parts[0].patience == 0.0
    _, inner = networks_search(read_problem(large(True)), limits, None)
    parts = inner.parts if isinstance(inner, Turns) else [inner]
    assert isinstance(parts[-1], RowSideSearch) and parts[-1].patience > 0
    assert not RowSideSearch.fits(read_problem(large(True, equal=True)))
    free = large(False)
    free.z = pyo.Var()
    free.tied = pyo.Constraint(expr=free.z >= free.x[0])
    free.obj.set_value(free.obj.expr + free.z)
    assert not RowSideSearch.fits(read_problem(free))


def test_patience_ends_where_nobody_else_has_work():
    class Done(RowSideSearch):
        bound, open_boxes = -math.inf, 0

        def begin(self):
            pass

    problem = read_problem(large(True))
    late = RowSideSearch(problem, Limits())
    late.patience = 1e9
    turns = Turns([Done(problem, Limits()), late])
    turns.step()
    assert turns.begun == [True, False]
    turns.step()
    assert turns.begun == [True, True]


def test_limits_and_the_bound_that_is_kept():
    search = RowSideSearch(read_problem(large(False)), Limits(node_limit=20))
    search.settings = replace(row_bounds.SETTINGS, leaf=0, batch=4)
    search.run()
    assert search.stopped == "nodes" and search.counts.boxes < 100
    assert -math.inf < search.bound <= search.incumbent.cost


def test_relu_proves_by_it(monkeypatch):
    """Where the MIP doesn't begin at once, which it does for so few neurons."""
    late = replace(together.TOGETHER, few_neurons=0)
    monkeypatch.setattr(together, "TOGETHER", late)
    results = NewFactory("relu").solve(large(False), load_solutions=False)
    expected = by_rows(large(False))
    assert results.incumbent_objective == pytest.approx(expected, rel=2e-4)
    assert "sides among rows" in results.extra_info.parts


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, 1000, 25))
def test_many_random_rows_agree_with_the_mip(first):
    faults = {}
    for seed in range(1000 + first, 1025 + first):
        fault = check(rows_model, seed, leaf=(4, 8, 12)[seed % 3])
        if fault is not None:
            faults[seed] = fault
    assert not faults
