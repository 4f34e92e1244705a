"""`solve` for callers to whom a missing solution is a result, and no error."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from pyomo.contrib.solver.common.results import TerminationCondition

from pyomo_relu.solvers.global_search import ReluGlobal
from pyomo_relu.solvers.highs import ReluHighs

_STATUS = {
    TerminationCondition.convergenceCriteriaSatisfied: "optimal",
    TerminationCondition.provenInfeasible: "infeasible",
}


@dataclass
class Solved:
    """What a solver says about a model.

    Attributes
    ----------
    status : {'optimal', 'infeasible', 'stopped'}
    value : float or None
        The objective at the best point; None without one.
    bound : float
        The solver's dual bound of the objective; NaN where it gives none.
    nodes : int
        How many nodes the search tree has; 0 where the solver doesn't say.
    """

    status: str
    value: float | None
    bound: float
    nodes: int = 0


def solve_quietly(
    solver: ReluHighs | ReluGlobal,
    model: Any,
    time_limit: float | None = None,
    **keywords: Any,
) -> Solved:
    """Solve by one of the package's own solvers, and load its best point, if any."""
    if time_limit is not None:  # or else the solver's own limit holds
        keywords["time_limit"] = time_limit
    # The solver's own interface, also where it came from Pyomo's customary factory.
    own = next(kind for kind in (ReluHighs, ReluGlobal) if isinstance(solver, kind))
    results = own.solve(
        solver,
        model,
        load_solutions=False,
        raise_exception_on_nonoptimal_result=False,
        **keywords,
    )
    value, bound = results.incumbent_objective, results.objective_bound
    nodes = results.extra_info.get("mip_node_count", None)
    if value is not None:
        results.solution_loader.load_vars()
    return Solved(
        _STATUS.get(results.termination_condition, "stopped"),
        value,
        math.nan if bound is None else float(bound),
        0 if nodes is None else int(nodes.value() or 0),
    )
