"""What adversarial examples and feature visualization share: the box, solving, proof."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pyomo.environ as pyo
from numpy.typing import ArrayLike
from pyomo.opt import TerminationCondition

from pyomo_relu.base.deadline import Deadline
from pyomo_relu.network import Network
from pyomo_relu.solvers import ReluHighs
from pyomo_relu.solvers.quietly import Solved, solve_quietly
from pyomo_relu.solvers.watch import Progress

_STATUS = {
    TerminationCondition.optimal: "optimal",
    TerminationCondition.infeasible: "infeasible",
}


def input_box(
    network: Network, lower: ArrayLike, upper: ArrayLike
) -> tuple[np.ndarray, np.ndarray]:
    """The bounds of all inputs, (n_inputs,) each."""
    low, high = (
        np.array(np.broadcast_to(np.asarray(a, float).reshape(-1), (network.n_inputs,)))
        for a in (lower, upper)
    )
    return low, high


def image_in_box(
    network: Network, image: Any, box: tuple[np.ndarray, np.ndarray], what: str
) -> np.ndarray:
    """One image, (n_inputs,); ValueError where it is none, or outside of the box."""
    points = network.flat_inputs(image)[0]
    if len(points) != 1:
        raise ValueError(f"one image is needed, but {len(points)} were given.")
    if (points[0] < box[0]).any() or (points[0] > box[1]).any():
        raise ValueError(f"{what} is outside of its bounds; give lower= and upper=.")
    return points[0]


def available(solver: Any) -> Any:
    """The solver of this name, or the user's own; ValueError where it is missing."""
    found = pyo.SolverFactory(solver) if isinstance(solver, str) else solver
    if not found.available(exception_flag=False):
        raise ValueError(f"the solver '{solver}' is not available; install it.")
    return found


def solve_program(
    model: pyo.ConcreteModel,
    solver: Any,
    deadline: Deadline,
    warm: bool = False,
    start: str | None = "auto",
) -> Solved:
    """Solve a model with any solver and load its best point.

    ``relu_highs`` takes the values of the variables as a start if they are ``warm``, and
    else looks for one, unless ``start`` is None. It heeds the deadline's CPU time; any
    other solver takes the less of clock and CPU time as a limit of its clock.
    """
    found = available(solver)
    if isinstance(found, ReluHighs):
        keywords: dict[str, Any] = {"warmstart": True} if warm else {"start": start}
        if deadline.counts_cpu:
            keywords["progress"] = _until(deadline, found.config.progress)
        return solve_quietly(found, model, time_limit=deadline.clock_limit, **keywords)
    limit = {} if deadline.limit is None else {"timelimit": deadline.limit}
    results = found.solve(model, **limit)
    objective = next(model.component_data_objects(pyo.Objective, active=True))
    side = "lower_bound" if objective.is_minimizing() else "upper_bound"
    try:
        bound = float(getattr(results.problem, side))
    except (AttributeError, TypeError, ValueError):
        bound = math.nan  # the solver gives none
    status = _STATUS.get(results.solver.termination_condition, "stopped")
    return Solved(status, None, bound)


def _until(
    deadline: Deadline, tell: Callable[[Progress], Any] | None
) -> Callable[[Progress], bool]:
    """A progress callback that ends a search in time; it calls the user's own first."""

    def report(progress: Progress) -> bool:
        return bool(tell is not None and tell(progress)) or deadline.expired()

    return report
