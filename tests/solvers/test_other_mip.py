"""Another MIP solver in place of HiGHS: what it is given, and that the answer is the model's."""

from __future__ import annotations

import math

import numpy as np
import pyomo.environ as pyo
import pytest
from pyomo.opt import SolverStatus

from pyomo_relu.base.deadline import Deadline
from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.presolve.problem import Problem
from pyomo_relu.presolve.reading import read_problem
from pyomo_relu.programs import HighsModel, Rows
from pyomo_relu.solvers.global_search.limits import Limits
from pyomo_relu.solvers.global_search.mip import BoxMIP, node_ranges
from pyomo_relu.solvers.relu.mip_form import PresolvedMIP
from pyomo_relu.solvers.relu.other_mip import OtherMIP
from pyomo_relu.solvers.relu.scene import look_at
from pyomo_relu.solvers.relu.search import TogetherSearch
from tests.solvers.row_models import rows_model
from tests.solvers.test_row_sides import by_rows

pytest.importorskip("highspy")

#: Gap of the searches here, relative to the cost.
GAP = 1e-7


def middling(problem: Problem) -> np.ndarray | None:
    """A point whose cost is between the least and the most; None where there is no point."""
    mip = BoxMIP(problem, problem.lower, problem.upper, *node_ranges(problem, *problem.box))
    ends = []
    for sign in (1.0, -1.0):
        mip.program.cost *= sign
        answer = HighsModel(mip.program).run()
        if answer.point is None:
            return None
        ends.append(float(problem.cost @ answer.point[: len(problem.cost)]))
    mip.program.cost *= -1.0
    row = sp.csr_array(mip.program.cost[None])
    least = np.array([0.6 * ends[0] + 0.4 * ends[1]])
    program = mip.program.with_rows(Rows(row, least, np.array([math.inf])))
    answer = HighsModel(program).run()
    return None if answer.point is None else answer.point[: len(problem.cost)]


def search_by(solver, seed: int, forms: list) -> TogetherSearch | None:
    """A search that begins with a middling point and then is all MIP; None where empty."""
    problem = read_problem(rows_model(seed), Deadline(), "relu")
    if problem.infeasible is not None:
        return None

    def write(cutoff: float, seconds: float) -> PresolvedMIP:
        forms.append(PresolvedMIP(problem, cutoff, Deadline(), 10.0))
        return forms[-1]

    limits = Limits(rel_gap=GAP)
    other = OtherMIP(solver, tee=False)
    search = TogetherSearch(problem, limits, None, look_at(problem), None, write, 1, other)
    search.look_for_points = lambda count: None
    point = middling(problem)
    if point is not None:
        search.incumbent.offer(point)
    return search


@pytest.mark.parametrize("name", ["appsi_highs", "scip_direct", "gurobi_direct"])
@pytest.mark.parametrize("seed", range(300, 308))
def test_its_proof_on_narrowed_bounds_is_the_models(name, seed):
    if not pyo.SolverFactory(name).available(exception_flag=False):
        pytest.skip(f"{name} is not installed")
    expected, forms = by_rows(rows_model(seed)), []
    search = search_by(name, seed, forms)
    if search is None:
        assert expected == math.inf
        return
    search.run()
    p = search.problem
    cost = (expected - p.offset) * p.sign
    if math.isinf(expected):
        assert search.bound == math.inf and search.incumbent.point is None
        return
    close = 1e-5 * max(1.0, abs(cost))
    assert search.incumbent.cost == pytest.approx(cost, abs=close)
    assert cost - close <= search.bound <= search.incumbent.cost


def test_it_is_given_narrowed_bounds_and_the_row_of_the_cost():
    forms: list = []
    search = search_by("appsi_highs", 10, forms)
    search.run()
    (form,) = forms
    assert math.isfinite(form.cutoff) and "times smaller" in form.description
    m, program = form.model, form.program
    ends = [(v.lb, v.ub) for v in m.column.values()]
    assert ends == list(zip(program.lower.tolist(), program.upper.tolist()))
    # The last row is that of the cost.
    coefs = program.matrix[[-1]].toarray()[0]
    at = np.flatnonzero(program.cost)
    ratio = coefs[at] / program.cost[at]
    assert set(np.flatnonzero(coefs)) == set(at) and np.ptp(ratio) <= 1e-9 * ratio.max()
    last = m.row[len(program.row_lower) - 1]
    assert last.upper == program.row_upper[-1] >= ratio[0] * form.cutoff


class Told:
    """HiGHS, whose results are changed before they are handed back."""

    name = "told"
    options: dict = {}

    def __init__(self, change):
        self.change = change

    def available(self, exception_flag):
        return True

    def solve(self, model, **keywords):
        results = pyo.SolverFactory("appsi_highs").solve(model, load_solutions=False)
        self.change(results)
        return results


def test_where_nothing_is_better_the_best_point_is_proved():
    """A solver that finds the row of the cost impossible leaves the bound at the best point."""

    def change(results):
        results.solver.termination_condition = pyo.TerminationCondition.infeasible

    search = search_by(Told(change), 10, [])
    search.run()
    assert search.mip_bound == math.inf
    assert search.bound == search.incumbent.cost < math.inf


@pytest.mark.parametrize("seed", [10, 11])
def test_its_bound_counts_where_it_stops_early(seed):
    lower = []

    def change(results):
        results.solver.termination_condition = pyo.TerminationCondition.maxTimeLimit
        results.problem[0].lower_bound = results.problem[0].upper_bound - 0.1
        lower.append(results.problem[0].lower_bound)

    search = search_by(Told(change), seed, [])
    search.run()
    assert search.bound == pytest.approx(lower[0], abs=1e-5)
    assert not search.proved and search.incumbent.cost > search.bound + 0.09


def test_a_point_at_its_limit_is_taken_without_a_warning(caplog):
    """Pyomo warns where it loads a point of a solver that was stopped; the status is ours."""

    def change(results):
        results.solver.status = SolverStatus.aborted
        results.solver.termination_condition = pyo.TerminationCondition.maxTimeLimit

    search = search_by(Told(change), 10, [])
    before = search.incumbent.cost
    search.run()
    assert search.incumbent.cost < before - 1e-3
    assert not caplog.records
