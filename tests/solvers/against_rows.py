"""relu_scip on a model against HiGHS on the same one with the networks as rows."""

from __future__ import annotations

import math
from typing import Any

import pyomo.environ as pyo
from pyomo.contrib.solver.common.factory import SolverFactory as NewFactory

SOLVED, EMPTY = "convergenceCriteriaSatisfied", "provenInfeasible"


def by_rows(m: pyo.ConcreteModel) -> float | None:
    """The optimum on the rows of big-M; infinite where there is no point, None if unsure."""
    results = NewFactory("highs").solve(
        m,
        load_solutions=False,
        raise_exception_on_nonoptimal_result=False,
        rel_gap=1e-8,
        time_limit=600,
    )
    status = results.termination_condition.name
    if status == EMPTY:
        return math.inf
    return results.incumbent_objective if status == SOLVED else None


def wrong_by_rows(m: pyo.ConcreteModel, other: pyo.ConcreteModel, **how: Any) -> str | None:
    """What is wrong in relu_scip's answer for ``m``; None where nothing is.

    ``other`` is the same model with rows for its networks. What is left open has to have a
    valid bound.
    """
    best = by_rows(other)
    results = NewFactory("relu_scip").solve(
        m,
        node_limit=2000,
        load_solutions=False,
        raise_exception_on_nonoptimal_result=False,
        **how,
    )
    status, value = results.termination_condition.name, results.incumbent_objective
    if best is None:
        return None
    if math.isinf(best):
        return None if value is None else f"{value}, where nothing is feasible"
    if status == EMPTY:
        return f"infeasible, not {best}"
    size = max(1.0, abs(best))
    sense = next(m.component_data_objects(pyo.Objective, active=True)).sense
    if results.objective_bound is not None:
        beyond = sense * (results.objective_bound - best)
        if beyond > 2e-5 * size:
            return f"the bound {results.objective_bound} of {best}"
    if status == SOLVED and abs(value - best) > 3e-4 * size:
        return f"{value}, not {best}"
    return None
