"""Which search suits a problem."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor

from pyomo_relu.solvers.global_search.decompose import Decomposition
from pyomo_relu.solvers.global_search.problem import Problem
from pyomo_relu.solvers.global_search.search import Search
from pyomo_relu.solvers.global_search.state import Limits, Tree
from pyomo_relu.solvers.global_search.units import find_units


def choose_search(
    problem: Problem,
    limits: Limits,
    executor: Executor | None = None,
    report: Callable[[Tree, str], object] | None = None,
) -> Tree:
    """Boxes of all inputs for one unit, prices for several that only rows connect."""
    if problem.network is not None:
        groups = find_units(problem)
        if len(groups) > 1:
            return Decomposition(problem, limits, report, groups)
    return Search(problem, limits, executor, report)
