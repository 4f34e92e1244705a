"""Which search suits a problem."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Executor

import numpy as np

from pyomo_relu.solvers.global_search.decompose import Decomposition
from pyomo_relu.solvers.global_search.handover import HandOver
from pyomo_relu.solvers.global_search.problem import Problem
from pyomo_relu.solvers.global_search.search import Search
from pyomo_relu.solvers.global_search.state import Limits, Tree
from pyomo_relu.solvers.global_search.units import find_units

logger = logging.getLogger(__name__)

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
        return _alone(HandOver(problem, limits, report), executor)
    groups = find_units(problem)
    if limits.hand_over and max(_effective(problem, g[0]) for g in groups) > MOST_INPUTS:
        return _alone(HandOver(problem, limits, report), executor)
    if len(groups) > 1:
        return _alone(Decomposition(problem, limits, report, groups), executor)
    return Search(problem, limits, executor, report)


def _alone(search: Tree, executor: Executor | None) -> Tree:
    """A search in one process; says so where workers were offered."""
    if executor is not None:
        what = (
            "one MIP by HiGHS"
            if isinstance(search, HandOver)
            else "a search by units, whose cells a worker would need anew each time"
        )
        logger.warning(
            "relu_global: executor= and threads= are of no use for this model, which is "
            "%s; it runs in one process.",
            what,
        )
    return search


def _effective(problem: Problem, drivers: np.ndarray) -> int:
    """How many of a unit's inputs can be split."""
    return int((problem.lower[drivers] < problem.upper[drivers]).sum())
