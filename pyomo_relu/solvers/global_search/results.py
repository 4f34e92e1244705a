"""The search's answer in Pyomo's terms: termination, bound, gap, values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from pyomo.common.collections import ComponentMap
from pyomo.contrib.solver.common.results import (
    Results,
    SolutionStatus,
    TerminationCondition,
)
from pyomo.contrib.solver.common.solution_loader import SolutionLoader
from pyomo.contrib.solver.common.util import (
    NoDualsError,
    NoReducedCostsError,
    NoSolutionError,
)
from pyomo.core.staleflag import StaleFlagManager

from pyomo_relu.presolve.problem import Problem

_STOPPED = {
    "time": TerminationCondition.maxTimeLimit,
    "nodes": TerminationCondition.iterationLimit,
    "interrupt": TerminationCondition.interrupted,
    "callback": TerminationCondition.interrupted,
    "unbounded": TerminationCondition.infeasibleOrUnbounded,
}


class GlobalSolutionLoader(SolutionLoader):
    """Values of the best point; those inside the networks come from the networks."""

    def __init__(self, model, problem: Problem, point: np.ndarray | None) -> None:
        self._pyomo_model = model
        self._problem, self._point = problem, point

    def get_number_of_solutions(self) -> int:
        """1 if there is a feasible point, else 0."""
        return int(self._point is not None)

    def _values(self) -> ComponentMap:
        if self._point is None:
            raise NoSolutionError()
        found = ComponentMap()
        for v, x in zip(self._problem.columns, self._point.tolist()):
            found[v] = x
        for link in self._problem.links:  # each reads only what is known by now
            x = np.array([self._input(one, found) for one in link.inputs])
            for v, y in zip(link.outputs, link.block.network.evaluate(x).tolist()):
                if not v.fixed and v not in found:
                    found[v] = y
        return found

    def _input(self, one, found: ComponentMap) -> float:
        return one.constant + sum(
            a * found[self._problem.by_id[key]] for key, a in one.terms.items()
        )

    def get_vars(self, vars_to_load: Sequence[Any] | None = None):
        """Map the model's variables to their values; a formulation's are left out."""
        found = self._values()
        if vars_to_load is None:
            return found
        return ComponentMap((v, found[v]) for v in vars_to_load if v in found)

    def load_vars(self, vars_to_load: Sequence[Any] | None = None) -> None:
        """Set the variables, those of the formulations included."""
        found = self.get_vars(vars_to_load)
        for v, x in found.items():
            if not v.fixed:
                v.set_value(x, skip_validation=True)
        if vars_to_load is None:
            for link in self._problem.links:
                point = link.block.input_values()
                if point is not None:
                    link.block.set_layer_values(point)
        StaleFlagManager.mark_all_as_stale(delayed=True)

    def get_duals(self, cons_to_load: Sequence[Any] | None = None) -> dict[Any, float]:
        """Raise: a nonconvex problem has none."""
        raise NoDualsError()

    def get_reduced_costs(self, vars_to_load: Sequence[Any] | None = None):
        """Raise: a nonconvex problem has none."""
        raise NoReducedCostsError()

    def load_import_suffixes(self) -> None:
        """Leave the suffixes ``dual`` and ``rc`` empty."""
        self._collect_and_clear_import_suffixes()


def gap_of(incumbent: float, bound: float) -> float:
    """``|incumbent - bound| / |incumbent|``, infinite where one is missing."""
    if not (math.isfinite(incumbent) and math.isfinite(bound)):
        return math.inf
    return abs(incumbent - bound) / max(abs(incumbent), 1e-10)


def read_results(search, model) -> Results:
    """The results of a search."""
    problem: Problem = search.problem
    cost, point = search.incumbent.cost, search.incumbent.point
    results = Results()
    results.solution_loader = GlobalSolutionLoader(model, problem, point)
    results.solution_status = SolutionStatus.noSolution
    bound: float | None = problem.user_objective(search.bound)
    if point is not None:
        results.solution_status = SolutionStatus.feasible
        results.incumbent_objective = problem.user_objective(cost)
    if search.stopped is not None:
        results.termination_condition = _STOPPED[search.stopped]
    elif point is None and search.proved:
        results.termination_condition = TerminationCondition.provenInfeasible
        bound = None
    elif point is not None and search.proved:
        results.termination_condition = TerminationCondition.convergenceCriteriaSatisfied
        results.solution_status = SolutionStatus.optimal
    else:
        # Boxes too narrow to split, on which tolerances leave the answer open.
        results.termination_condition = TerminationCondition.unknown
    results.objective_bound = bound
    counts = search.counts
    results.extra_info.mip_gap = (
        math.inf if bound is None else gap_of(problem.user_objective(cost), bound)
    )
    results.extra_info.mip_node_count = counts.boxes
    results.extra_info.rounds = counts.rounds
    results.extra_info.linear_programs = counts.lps
    results.extra_info.small_mips = counts.mips
    results.extra_info.open_boxes = search.open_boxes
    return results


def early_results(problem: Problem, model) -> Results | None:
    """The results of a model that reading it decides; else None."""
    if problem.infeasible is None and problem.unbounded is None:
        return None
    results = Results()
    results.solution_loader = GlobalSolutionLoader(model, problem, None)
    results.solution_status = SolutionStatus.noSolution
    results.termination_condition = (
        TerminationCondition.provenInfeasible
        if problem.infeasible
        else TerminationCondition.infeasibleOrUnbounded
    )
    results.extra_info.reason = problem.infeasible or problem.unbounded
    return results
