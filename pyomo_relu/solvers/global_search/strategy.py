"""Which search suits a problem."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor

import numpy as np

from pyomo_relu.solvers.global_search.decompose import Decomposition
from pyomo_relu.solvers.global_search.handover import HandOver
from pyomo_relu.solvers.global_search.problem import Problem
from pyomo_relu.solvers.global_search.search import Search
from pyomo_relu.solvers.global_search.state import Limits, Tree
from pyomo_relu.solvers.global_search.units import find_units

#: A unit with more inputs goes to the MIP: at 10 inputs boxes and MIP are about even.
MOST_INPUTS = 16


def choose_search(
    problem: Problem,
    limits: Limits,
    executor: Executor | None = None,
    report: Callable[[Tree, str], object] | None = None,
) -> Tree:
    """The search for a problem.

    Prices for several units that only rows connect; a MIP where an independent part
    has more inputs than boxes can serve, or where there is no network; else boxes.
    """
    if problem.network is None:
        return HandOver(problem, limits, report)
    groups = find_units(problem)
    if limits.hand_over and max(_effective(problem, g[0]) for g in groups) > MOST_INPUTS:
        return HandOver(problem, limits, report)
    if len(groups) > 1:
        return Decomposition(problem, limits, report, groups)
    return Search(problem, limits, executor, report)


def _effective(problem: Problem, drivers: np.ndarray) -> int:
    """How many of a unit's inputs can be split."""
    return int((problem.lower[drivers] < problem.upper[drivers]).sum())
