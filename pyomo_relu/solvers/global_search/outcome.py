"""The search's answer in Pyomo's terms: termination, bound, gap, values."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from pyomo.contrib.solver.common.results import Results, TerminationCondition

from pyomo_relu.presolve.problem import Problem
from pyomo_relu.presolve.values_back import set_layers, values_at
from pyomo_relu.solvers.global_search.cost_search import CostSearch
from pyomo_relu.solvers.results import PointLoader, make_results, relative_gap

_STOPPED = {
    "time": TerminationCondition.maxTimeLimit,
    "nodes": TerminationCondition.iterationLimit,
    "interrupt": TerminationCondition.interrupted,
    "callback": TerminationCondition.interrupted,
    "unbounded": TerminationCondition.infeasibleOrUnbounded,
}


class GlobalSolutionLoader(PointLoader):
    """Values of the best point; those inside the networks come from the networks.

    Variables of a formulation are set with all others, but have no values of their own.
    """

    def __init__(self, model: Any, problem: Problem, point: np.ndarray | None) -> None:
        super().__init__(model, point is not None)
        self._problem, self._point = problem, point

    def _pairs(self) -> Iterable[tuple[Any, float]]:
        assert self._point is not None
        return values_at(self._problem, self._point).items()

    def _load_inside(self) -> None:
        set_layers(self._problem)


def read_results(search: CostSearch, model: Any) -> Results:
    """The results of a search."""
    problem, counts, point = search.problem, search.counts, search.incumbent.point
    found = problem.user_objective(search.incumbent.cost)
    bound: float | None = problem.user_objective(search.bound)
    if search.stopped is not None:
        condition = _STOPPED[search.stopped]
    elif not search.proved:
        # Boxes too narrow to split, on which tolerances leave the answer open.
        condition = TerminationCondition.unknown
    elif point is None:
        condition, bound = TerminationCondition.provenInfeasible, None
    else:
        condition = TerminationCondition.convergenceCriteriaSatisfied
    return make_results(
        GlobalSolutionLoader(model, problem, point),
        condition,
        None if point is None else found,
        bound,
        mip_gap=math.inf if bound is None else relative_gap(found, bound),
        mip_node_count=counts.boxes,
        rounds=counts.rounds,
        linear_programs=counts.lps,
        small_mips=counts.mips,
        open_boxes=search.open_boxes,
    )


def early_results(problem: Problem, model: Any) -> Results | None:
    """The results of a model that reading it decides; else None."""
    if problem.infeasible is None and problem.unbounded is None:
        return None
    return make_results(
        GlobalSolutionLoader(model, problem, None),
        TerminationCondition.provenInfeasible
        if problem.infeasible
        else TerminationCondition.infeasibleOrUnbounded,
        reason=problem.infeasible or problem.unbounded,
    )
