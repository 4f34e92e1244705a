"""What adversarial examples and feature visualization share: solving, and its proof."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyomo.environ as pyo
from pyomo.contrib.solver.common.results import TerminationCondition as Condition
from pyomo.opt import TerminationCondition

from pyomo_relu.solvers.highs import ReluHighs

#: What counts as a proof.
PROVED = {TerminationCondition.optimal}
NONE = {TerminationCondition.infeasible}


@dataclass
class Solved:
    """What a solver says about a model.

    Attributes
    ----------
    status : {'optimal', 'infeasible', 'stopped'}
    bound : float
        The solver's dual bound of the objective; NaN where it gives none.
    nodes : int
        Of the search tree; 0 where the solver doesn't say.
    """

    status: str
    bound: float
    nodes: int = 0


def solve_program(
    model: pyo.ConcreteModel,
    solver: Any,
    time_limit: float | None,
    warm: bool,
    start: str | None = "auto",
) -> Solved:
    """Solve a model with any solver and load its best point.

    Parameters
    ----------
    model : ConcreteModel
    solver : str or solver
        A name of ``SolverFactory`` or a solver of the user's own.
    time_limit : float, optional
        Seconds.
    warm : bool
        Whether the variables hold a start; ``relu_highs`` takes it.
    start : {'auto', None}
        Whether ``relu_highs`` looks for a start where there is none.
    """
    opt = available(solver)
    if isinstance(opt, ReluHighs):
        return _solve_highs(model, opt, time_limit, warm, start)
    keywords = {} if time_limit is None else {"timelimit": time_limit}
    results = opt.solve(model, **keywords)
    condition = results.solver.termination_condition
    objective = next(model.component_data_objects(pyo.Objective, active=True))
    side = "lower_bound" if objective.is_minimizing() else "upper_bound"
    try:
        bound = float(getattr(results.problem, side))
    except (AttributeError, TypeError, ValueError):
        bound = math.nan  # the solver gives none
    if condition in PROVED:
        return Solved("optimal", bound)
    return Solved("infeasible" if condition in NONE else "stopped", bound)


def available(solver: Any):
    """The solver of this name, or the user's own; ValueError where it is missing."""
    opt = pyo.SolverFactory(solver) if isinstance(solver, str) else solver
    if not opt.available(exception_flag=False):
        raise ValueError(f"the solver '{solver}' is not available; install it.")
    return opt


def _solve_highs(model, opt, time_limit, warm, start) -> Solved:
    """By the solver's own interface, to which a missing solution is a result."""
    keywords: dict[str, Any] = {"warmstart": True} if warm else {"start": start}
    if time_limit is not None:
        keywords["time_limit"] = time_limit
    results = ReluHighs.solve(
        opt,
        model,
        load_solutions=False,
        raise_exception_on_nonoptimal_result=False,
        **keywords,
    )
    if results.incumbent_objective is not None:
        results.solution_loader.load_vars()
    status = {
        Condition.convergenceCriteriaSatisfied: "optimal",
        Condition.provenInfeasible: "infeasible",
    }.get(results.termination_condition, "stopped")
    bound = results.objective_bound
    nodes = results.extra_info.get("mip_node_count", None)
    return Solved(
        status,
        math.nan if bound is None else float(bound),
        0 if nodes is None else int(nodes.value() or 0),
    )


def input_variables(model, lower: np.ndarray, upper: np.ndarray) -> None:
    """Add ``model.x`` with these bounds."""
    model.x = pyo.Var(range(len(lower)), bounds=lambda m, i: (lower[i], upper[i]))


def absolute_difference(model, name: str, pairs, bound: float) -> pyo.Var:
    """Add variables ``d >= |a - b|`` for pairs of expressions."""
    pairs = list(pairs)
    d = pyo.Var(range(len(pairs)), bounds=(0, bound))
    model.add_component(name, d)
    rows = pyo.ConstraintList()
    model.add_component(f"{name}_rows", rows)
    for k, (a, b) in enumerate(pairs):
        rows.add(d[k] >= a - b)
        rows.add(d[k] >= b - a)
    return d


def point(model) -> np.ndarray:
    """The values of ``model.x`` within their bounds."""
    return np.array(
        [min(max(pyo.value(v), v.lb), v.ub) for v in model.x.values()], dtype=float
    )
