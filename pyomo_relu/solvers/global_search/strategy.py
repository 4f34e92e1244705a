"""Which search suits a problem."""

from __future__ import annotations

import logging
from concurrent.futures import Executor

import numpy as np

from pyomo_relu.base.deadline import Deadline
from pyomo_relu.presolve.problem import Problem
from pyomo_relu.solvers.global_search.box_search import BoxSearch
from pyomo_relu.solvers.global_search.cost_search import (
    CostSearch,
    Limits,
    Report,
    RoundSearch,
)
from pyomo_relu.solvers.global_search.decompose import Decomposition
from pyomo_relu.solvers.global_search.fibres import NotEnumeratedError
from pyomo_relu.solvers.global_search.handover import HandOver
from pyomo_relu.solvers.global_search.neuron_search import NeuronSearch
from pyomo_relu.solvers.global_search.piece_search import PieceSearch
from pyomo_relu.solvers.global_search.pieces import find_all_pieces
from pyomo_relu.solvers.global_search.race import Race, WholeMIP
from pyomo_relu.solvers.global_search.settings import TURNS
from pyomo_relu.solvers.global_search.shares import find_shares, split_shares
from pyomo_relu.solvers.global_search.subsystems import find_subsystems

logger = logging.getLogger(__name__)


def choose_search(
    problem: Problem,
    limits: Limits,
    executor: Executor | None = None,
    report: Report | None = None,
) -> CostSearch:
    """The search for a problem.

    For several subsystems that only rows connect, programs over their polytopes, or prices
    where these are not enumerated; a MIP where an independent part
    has more inputs than boxes can serve, or where there is no network; else boxes. An
    objective of one chain of ReLU layers over a box is split by the sides of neurons,
    too; boxes, sides and a MIP take turns where it isn't plain which is quicker. Networks
    with smooth units: boxes.
    """
    if problem.network is not None and problem.network.smooth_layers:
        # Polytopes, prices and MIPs are made of pieces.
        return BoxSearch(problem, limits, executor, report)
    return _with_pieces(problem, limits, executor, report)


def _with_pieces(
    problem: Problem, limits: Limits, executor: Executor | None, report: Report | None
) -> CostSearch:
    """The search for a problem whose networks are piecewise linear."""
    chain = NeuronSearch.fits(problem)
    too_many = limits.hand_over and widest(problem) > TURNS.most_inputs and not chain
    if problem.network is not None and not chain:
        polytopes = by_polytopes(problem, limits, report, executor)
        if polytopes is not None:
            return polytopes
    if problem.network is None or too_many:
        if executor is not None:
            logger.warning(
                "relu_global: executor= and threads= are of no use for this model, which is "
                "one MIP by HiGHS; it runs in one process."
            )
        return HandOver(problem, limits, report)
    if len(groups := find_subsystems(problem)) > 1 and not chain:
        return Decomposition(problem, limits, report, groups, executor)
    return by_turns(problem, limits, executor, report, limits.hand_over)


def by_polytopes(
    problem: Problem,
    limits: Limits,
    report: Report | None = None,
    executor: Executor | None = None,
) -> PieceSearch | None:
    """A search over polytopes of several subsystems that only rows connect.

    Where there is one subsystem only, or where one has too many polytopes, its networks are
    subsystems, as long as all that they share are inputs of few values. None where there
    are too many all the same.
    """
    deadline = Deadline(limits.time_limit, limits.cpu_time_limit)
    for find in (find_shares, split_shares):
        shares = find(problem)
        if len(shares) < 2:
            continue
        try:
            pieces = find_all_pieces(problem, shares, deadline, executor)
        except NotEnumeratedError:
            continue
        return PieceSearch(problem, limits, shares, pieces, report)
    return None


def by_turns(
    problem: Problem,
    limits: Limits,
    executor: Executor | None = None,
    report: Report | None = None,
    whole: bool = False,
) -> RoundSearch:
    """Boxes, sides of neurons, and, where ``whole``, a MIP, by turns."""
    inputs = widest(problem)
    many = inputs >= TURNS.many_inputs
    boxes = BoxSearch(problem, limits, executor, report)
    chain = limits.hand_over and NeuronSearch.fits(problem)
    parts: list[tuple[RoundSearch, float]] = []
    if not chain or inputs <= TURNS.most_inputs:
        parts.append((boxes, TURNS.many_boxes if many else TURNS.boxes))
    if chain:
        sides = NeuronSearch(problem, limits, executor, report)
        turn = TURNS.many_sides if many else TURNS.sides
        parts.insert(0 if many else 1, (sides, turn))
    if whole and (inputs > TURNS.mip_inputs or boxes.neurons() <= TURNS.mip_neurons):
        parts.append((WholeMIP(problem, limits, report), TURNS.mip))
    if len(parts) == 1:
        return parts[0][0]
    return Race(*zip(*parts))


def widest(problem: Problem) -> int:
    """How many inputs that belong together can be split."""
    free = problem.lower < problem.upper
    parts = [drivers for drivers, _ in find_subsystems(problem)]
    return max((int(np.count_nonzero(free[part])) for part in parts), default=0)
