"""Which search suits a problem."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Executor

import numpy as np

from pyomo_relu.solvers.global_search.decompose import Decomposition
from pyomo_relu.solvers.global_search.handover import HandOver
from pyomo_relu.solvers.global_search.neuron_search import NeuronSearch
from pyomo_relu.solvers.global_search.problem import Problem
from pyomo_relu.solvers.global_search.race import Race, WholeMIP
from pyomo_relu.solvers.global_search.search import Search
from pyomo_relu.solvers.global_search.state import Limits, Stepped, Tree
from pyomo_relu.solvers.global_search.units import find_units

logger = logging.getLogger(__name__)

#: A unit with more inputs goes to the MIP: at 10 inputs boxes and MIP are about even.
MOST_INPUTS = 16
#: From so many inputs on sides of neurons come before boxes.
MANY_INPUTS = 7
#: With more inputs that can move, or fewer undecided neurons at the root, a MIP gets a
#: share of the time.
MIP_INPUTS, MIP_NEURONS = 10, 40
#: Boxes of the first turns, with few inputs and with many. A subproblem with fixed sides
#: costs about twice as much as a box.
BOXES, SPLITS, MIP_BOXES = 4_000.0, 500.0, 4_000.0
FEW_BOXES, MANY_SPLITS = 1_000.0, 4_000.0


def choose_search(
    problem: Problem,
    limits: Limits,
    executor: Executor | None = None,
    report: Callable[[Tree, str], object] | None = None,
) -> Tree:
    """The search for a problem.

    Prices for several units that only rows connect; a MIP where an independent part
    has more inputs than boxes can serve, or where there is no network; else boxes. An
    objective of one chain of ReLU layers over a box is split by the sides of neurons,
    too; boxes, sides and a MIP take turns where it isn't plain which is quicker.
    """
    if problem.network is None:
        return _alone(HandOver(problem, limits, report), executor)
    groups = find_units(problem)
    widest = _widest(problem)
    chain = NeuronSearch.fits(problem)
    if limits.hand_over and widest > MOST_INPUTS and not chain:
        return _alone(HandOver(problem, limits, report), executor)
    if len(groups) > 1 and not chain:
        return _alone(Decomposition(problem, limits, report, groups), executor)
    search = search_inputs(problem, limits, executor, report, limits.hand_over)
    parts = search.parts if isinstance(search, Race) else [search]
    if not any(isinstance(part, Search) for part in parts):
        return _alone(search, executor)
    return search


def search_inputs(
    problem: Problem,
    limits: Limits,
    executor: Executor | None = None,
    report: Callable[[Tree, str], object] | None = None,
    whole: bool = False,
) -> Stepped:
    """Boxes, sides of neurons, and, where ``whole``, a MIP, by turns."""
    widest = _widest(problem)
    boxes = Search(problem, limits, executor, report)
    chain = limits.hand_over and NeuronSearch.fits(problem)
    parts: list[tuple[Stepped, float]] = []
    if not chain or widest <= MOST_INPUTS:
        parts.append((boxes, BOXES if widest < MANY_INPUTS else FEW_BOXES))
    if chain:
        first = widest >= MANY_INPUTS
        sides = NeuronSearch(problem, limits, report)
        parts.insert(0 if first else 1, (sides, MANY_SPLITS if first else SPLITS))
    if whole and (widest > MIP_INPUTS or boxes.neurons() <= MIP_NEURONS):
        parts.append((WholeMIP(problem, limits, report), MIP_BOXES))
    if len(parts) == 1:
        return parts[0][0]
    return Race(*zip(*parts))


def _widest(problem: Problem) -> int:
    """How many inputs that belong together can be split."""
    return max((_effective(problem, g[0]) for g in find_units(problem)), default=0)


def _alone(search: Tree, executor: Executor | None) -> Tree:
    """A search in one process; says so where workers were offered."""
    if executor is not None:
        if isinstance(search, HandOver):
            what = "one MIP by HiGHS"
        elif isinstance(search, Decomposition):
            what = "a search by units, whose cells a worker would need anew each time"
        else:
            what = "a search over sides of neurons"
        logger.warning(
            "relu_global: executor= and threads= are of no use for this model, which is "
            "%s; it runs in one process.",
            what,
        )
    return search


def _effective(problem: Problem, drivers: np.ndarray) -> int:
    """How many of a unit's inputs can be split."""
    return int((problem.lower[drivers] < problem.upper[drivers]).sum())
