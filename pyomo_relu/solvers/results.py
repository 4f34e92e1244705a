"""Answers in Pyomo's terms: termination, bounds, gap, values, duals."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
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
from pyomo.core.base.objective import Objective
from pyomo.core.expr.visitor import identify_variables
from pyomo.core.staleflag import StaleFlagManager

from pyomo_relu.formulations import network_blocks
from pyomo_relu.programs import Answer, Status
from pyomo_relu.programs.standard_form import StandardForm

#: Endings of a solver of programs in Pyomo's terms.
TERMINATION = {
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


def relative_gap(incumbent: float, bound: float) -> float:
    """``|incumbent - bound| / |incumbent|``, infinite where one is missing."""
    if not (math.isfinite(incumbent) and math.isfinite(bound)):
        return math.inf
    return abs(incumbent - bound) / max(abs(incumbent), 1e-10)


def make_results(
    loader: PointLoader,
    condition: TerminationCondition,
    value: float | None = None,
    bound: float | None = None,
    **extra: Any,
) -> Results:
    """Results of a search that found a point of this value, or none.

    ``extra`` goes into ``extra_info``.
    """
    results = Results()
    results.solution_loader, results.termination_condition = loader, condition
    results.incumbent_objective, results.objective_bound = value, bound
    if value is None:
        results.solution_status = SolutionStatus.noSolution
    elif condition is TerminationCondition.convergenceCriteriaSatisfied:
        results.solution_status = SolutionStatus.optimal
    else:
        results.solution_status = SolutionStatus.feasible
    for name, known in extra.items():
        setattr(results.extra_info, name, known)
    return results


class PointLoader(SolutionLoader, ABC):
    """Values of one point, if there is one; no duals.

    Parameters
    ----------
    model : BlockData
    found : bool
        Whether there is a point.
    """

    def __init__(self, model: Any, found: bool) -> None:
        self._pyomo_model, self._found = model, found

    @abstractmethod
    def _pairs(self) -> Iterable[tuple[Any, float]]:
        """Each variable with its value."""

    def _load_inside(self) -> None:
        """What is to be set after all variables were."""

    def get_number_of_solutions(self) -> int:
        """1 if there is a feasible point, else 0."""
        return int(self._found)

    def get_vars(self, vars_to_load: Sequence[Any] | None = None) -> ComponentMap:
        """Map variables to their values."""
        if not self._found:
            raise NoSolutionError()
        found = ComponentMap(self._pairs())
        if vars_to_load is None:
            return found
        return ComponentMap((v, found[v]) for v in vars_to_load if v in found)

    def load_vars(self, vars_to_load: Sequence[Any] | None = None) -> None:
        """Set the values of all variables in the model, or of some."""
        every = vars_to_load is None and self._found
        pairs = self._pairs() if every else self.get_vars(vars_to_load).items()
        for v, x in pairs:
            if not v.fixed:
                v.set_value(x, skip_validation=True)
        if every:
            self._load_inside()
            _give_values_that_lack(self._pyomo_model)
        StaleFlagManager.mark_all_as_stale(delayed=True)

    def get_duals(self, cons_to_load: Sequence[Any] | None = None) -> dict[Any, float]:
        """Map constraints to duals; for LPs only."""
        raise NoDualsError()

    def get_reduced_costs(self, vars_to_load: Sequence[Any] | None = None) -> ComponentMap:
        """Map variables to reduced costs; for LPs only."""
        raise NoReducedCostsError()

    def load_import_suffixes(self) -> None:
        """Leave the suffixes ``dual`` and ``rc`` empty."""
        self._collect_and_clear_import_suffixes()


def _give_values_that_lack(model: Any) -> None:
    """Values for variables of the objective that are no columns, as their coefficient is 0.

    Any value within their bounds is right; the one nearest to 0 is taken. Without one the
    objective would have none.
    """
    for objective in model.component_data_objects(Objective, active=True):
        for v in identify_variables(objective.expr, include_fixed=False):
            if v.value is None:
                low, high = v.bounds
                x = max(0.0, -math.inf if low is None else low)
                x = min(x, math.inf if high is None else high)
                if v.is_integer():
                    x = math.ceil(x) if x > 0.0 else math.floor(x)
                v.set_value(x, skip_validation=True)


class HighsSolutionLoader(PointLoader):
    """Values, duals and reduced costs of one run of HiGHS.

    Duals follow Pyomo's convention: the change of the objective with the right-hand
    side, for either sense.
    """

    def __init__(
        self,
        model: Any,
        form: StandardForm | None,
        values: Sequence[float] | None,
        duals: Sequence[float] | None = None,
        costs: Sequence[float] | None = None,
    ) -> None:
        super().__init__(model, values is not None)
        self._form: Any = form
        self._values, self._duals, self._costs = values, duals, costs

    def _pairs(self) -> Iterable[tuple[Any, float]]:
        assert self._values is not None
        return zip(self._form.columns, self._values)

    def _load_inside(self) -> None:
        # A network that is constant over the box doesn't fix its inputs.
        from pyomo_relu.heuristics.network_columns import set_unused_inputs

        set_unused_inputs(network_blocks(self._pyomo_model))

    def get_duals(self, cons_to_load: Sequence[Any] | None = None) -> dict[Any, float]:
        """Map constraints to duals; for LPs only."""
        if self._duals is None:
            raise NoDualsError()
        found = dict(zip(self._form.rows, self._duals))
        return found if cons_to_load is None else {c: found[c] for c in cons_to_load}

    def get_reduced_costs(self, vars_to_load: Sequence[Any] | None = None) -> ComponentMap:
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


def read_results(
    answer: Answer, model: Any, form: StandardForm, boxed: Any = None
) -> Results:
    """The results of a run of HiGHS.

    ``boxed`` is what boxes found before, if they did: its bound holds as well.
    """
    bound, gap = answer.bound, answer.gap
    if boxed is not None and not answer.infeasible:
        bound = (min if form.maximize else max)(bound, boxed.bound)
        if answer.objective is not None:
            gap = float(np.fmin(gap, relative_gap(answer.objective, bound)))
    extra: dict[str, Any] = {"simplex_iterations": answer.iterations}
    duals, costs = answer.row_duals, answer.reduced_costs
    if form.is_mip:
        extra |= {"mip_gap": gap, "mip_node_count": answer.nodes}
        duals = costs = None
    arrays = (None if a is None else a.tolist() for a in (answer.point, duals, costs))
    return make_results(
        HighsSolutionLoader(model, form, *arrays),
        _LIMITS.get(answer.reason, TERMINATION[answer.status]),
        answer.objective,
        None if answer.infeasible else bound,
        **extra,
    )


def boxed_results(model: Any, form: StandardForm, boxed: Any) -> Results:
    """The results where boxes made HiGHS superfluous, or were interrupted."""
    return make_results(
        HighsSolutionLoader(model, form, boxed.point.tolist()),
        TERMINATION[Status.OPTIMAL if boxed.proven else Status.INTERRUPTED],
        boxed.value,
        boxed.bound,
        mip_gap=relative_gap(boxed.value, boxed.bound),
        mip_node_count=0,
    )


def empty_results(model: Any, form: StandardForm) -> Results:
    """The results for a model without a free variable, decided without a solver."""
    if not ((form.row_lower <= 1e-7).all() and (form.row_upper >= -1e-7).all()):
        loader = HighsSolutionLoader(model, form, None, None, [])
        return make_results(loader, TerminationCondition.provenInfeasible)
    loader = HighsSolutionLoader(model, form, [], [0.0] * len(form.rows), [])
    proved = TERMINATION[Status.OPTIMAL]
    return make_results(loader, proved, form.offset, form.offset)
