"""HiGHS's answer in Pyomo's terms: termination, bounds, values, duals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

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

from pyomo_relu.formulations import network_blocks
from pyomo_relu.programs import Answer, Status
from pyomo_relu.programs.standard_form import StandardForm

_TERMINATION = {
    Status.OPTIMAL: TerminationCondition.convergenceCriteriaSatisfied,
    Status.INFEASIBLE: TerminationCondition.provenInfeasible,
    Status.INFEASIBLE_OR_UNBOUNDED: TerminationCondition.infeasibleOrUnbounded,
    Status.UNBOUNDED: TerminationCondition.unbounded,
    Status.TIME_LIMIT: TerminationCondition.maxTimeLimit,
    Status.LIMIT: TerminationCondition.iterationLimit,
    Status.INTERRUPTED: TerminationCondition.interrupted,
    Status.FAILED: TerminationCondition.error,
}

#: Limits of HiGHS that Pyomo has a word of its own for.
_LIMITS = {
    "kObjectiveBound": TerminationCondition.objectiveLimit,
    "kObjectiveTarget": TerminationCondition.objectiveLimit,
    "kMemoryLimit": TerminationCondition.error,
}


def termination(answer: Answer) -> TerminationCondition:
    """Pyomo's termination condition."""
    return _LIMITS.get(answer.reason, _TERMINATION[answer.status])


def _set_unused_inputs(blocks) -> None:
    from pyomo_relu.heuristics.network_columns import set_unused_inputs

    set_unused_inputs(blocks)


class HighsSolutionLoader(SolutionLoader):
    """Values, duals and reduced costs of one run of HiGHS.

    Duals follow Pyomo's convention: the change of the objective with the right-hand
    side, for either sense.
    """

    def __init__(
        self, model, form: StandardForm | None, values, duals=None, costs=None
    ) -> None:
        self._pyomo_model = model
        self._form: Any = form
        self._values, self._duals, self._costs = values, duals, costs

    def get_number_of_solutions(self) -> int:
        """1 if there is a feasible point, else 0."""
        return int(self._values is not None)

    def get_vars(self, vars_to_load: Sequence[Any] | None = None):
        """Map variables to their values."""
        if self._values is None:
            raise NoSolutionError()
        found = ComponentMap(zip(self._form.columns, self._values))
        if vars_to_load is None:
            return found
        return ComponentMap((v, found[v]) for v in vars_to_load if v in found)

    def load_vars(self, vars_to_load: Sequence[Any] | None = None) -> None:
        """Set the values of all variables in the model, or of some."""
        if vars_to_load is not None or self._values is None:
            super().load_vars(vars_to_load)
            return
        for v, x in zip(self._form.columns, self._values):
            v.set_value(x, skip_validation=True)
        # A network that is constant over the box doesn't fix its inputs.
        _set_unused_inputs(network_blocks(self._pyomo_model))
        StaleFlagManager.mark_all_as_stale(delayed=True)

    def get_duals(self, cons_to_load: Sequence[Any] | None = None) -> dict[Any, float]:
        """Map constraints to duals; for LPs only."""
        if self._duals is None:
            raise NoDualsError()
        found = dict(zip(self._form.rows, self._duals))
        return found if cons_to_load is None else {c: found[c] for c in cons_to_load}

    def get_reduced_costs(self, vars_to_load: Sequence[Any] | None = None):
        """Map variables to reduced costs; for LPs only."""
        if self._costs is None:
            raise NoReducedCostsError()
        found = ComponentMap(zip(self._form.columns, self._costs))
        if vars_to_load is None:
            return found
        return ComponentMap((v, found[v]) for v in vars_to_load)

    def load_import_suffixes(self) -> None:
        """Fill the suffixes ``dual`` and ``rc``; a MIP leaves them empty."""
        suffixes = self._collect_and_clear_import_suffixes()
        if "dual" in suffixes and self._duals is not None:
            suffixes["dual"].update(self.get_duals())
        if "rc" in suffixes and self._costs is not None:
            suffixes["rc"].update(self.get_reduced_costs())


def read_results(answer: Answer, model, form: StandardForm, boxed: Any = None) -> Results:
    """The results of a run: status, bounds, gap, nodes and the solution's loader.

    ``boxed`` is what boxes found before, if they did: its bound holds as well.
    """
    results = Results()
    results.termination_condition = termination(answer)
    results.solution_status = SolutionStatus.noSolution
    results.incumbent_objective = answer.objective
    if answer.objective is not None:
        results.solution_status = (
            SolutionStatus.optimal if answer.optimal else SolutionStatus.feasible
        )
    bound, gap = answer.bound, answer.gap
    if boxed is not None and not answer.infeasible:
        nearer = min if form.maximize else max
        bound = nearer(bound, boxed.bound)
        if answer.objective is not None:
            missing = abs(bound - answer.objective)
            known = missing / max(abs(answer.objective), 1e-10)
            gap = known if math.isnan(gap) else min(gap, known)
    results.objective_bound = None if answer.infeasible else bound
    if form.is_mip:
        results.extra_info.mip_gap = gap
        results.extra_info.mip_node_count = answer.nodes
    results.extra_info.simplex_iterations = answer.iterations
    values, duals, costs = answer.point, None, None
    if not form.is_mip:
        duals, costs = answer.row_duals, answer.reduced_costs
    results.solution_loader = HighsSolutionLoader(
        model,
        form,
        *(None if a is None else a.tolist() for a in (values, duals, costs)),
    )
    return results


def boxed_results(model, form: StandardForm, boxed: Any) -> Results:
    """The results where boxes made HiGHS superfluous, or were interrupted."""
    results = Results()
    results.termination_condition = (
        TerminationCondition.convergenceCriteriaSatisfied
        if boxed.proven
        else TerminationCondition.interrupted
    )
    results.solution_status = (
        SolutionStatus.optimal if boxed.proven else SolutionStatus.feasible
    )
    results.incumbent_objective, results.objective_bound = boxed.value, boxed.bound
    results.extra_info.mip_gap = abs(boxed.bound - boxed.value) / max(
        abs(boxed.value), 1e-10
    )
    results.extra_info.mip_node_count = 0
    results.solution_loader = HighsSolutionLoader(model, form, boxed.point.tolist())
    return results


def empty_results(model, form: StandardForm) -> Results:
    """The results for a model without a free variable, decided without a solver."""
    results = Results()
    feasible = bool((form.row_lower <= 1e-7).all() and (form.row_upper >= -1e-7).all())
    if feasible:
        results.termination_condition = TerminationCondition.convergenceCriteriaSatisfied
        results.solution_status = SolutionStatus.optimal
        results.incumbent_objective = results.objective_bound = form.offset
    else:
        results.termination_condition = TerminationCondition.provenInfeasible
    none = [0.0] * len(form.rows)
    results.solution_loader = HighsSolutionLoader(
        model, form, [] if feasible else None, none if feasible else None, []
    )
    return results
