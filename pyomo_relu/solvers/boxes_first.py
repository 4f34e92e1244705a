"""Boxes before the MIP: what a partition of few inputs decides in a fraction of a second.

HiGHS takes seconds to minutes for a network of two inputs that branching on the inputs
proves optimal in a tenth of a second. So ``relu_highs`` lets the search of
``relu_global`` go first, for a limited number of boxes. Its best point is the start,
and its bound is a bound of the model; where they meet there is nothing left to do.

The search looks at the networks themselves, not at what the formulation wrote. It is
asked only where both mean the same: an exact formulation, nothing of it changed since it
was written, no row of the user's on variables inside. Its best point has to hold in the
model as it is, or nothing of the search is used.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pyomo_relu.base.deadline import Deadline
from pyomo_relu.block import is_as_written
from pyomo_relu.formulations import BigM, Cuts, Hull, Partition, network_blocks
from pyomo_relu.heuristics.network_columns import NetworkProblem
from pyomo_relu.heuristics.settings import START
from pyomo_relu.network import PiecewiseLinear
from pyomo_relu.presolve.problem import Problem
from pyomo_relu.presolve.reading import read_problem
from pyomo_relu.programs.standard_form import StandardForm
from pyomo_relu.solvers.global_search.cost_search import CostSearch, Limits
from pyomo_relu.solvers.global_search.neuron_search import NeuronSearch
from pyomo_relu.solvers.global_search.results import gap_of
from pyomo_relu.solvers.global_search.strategy import by_turns
from pyomo_relu.solvers.global_search.subsystems import find_subsystems

logger = logging.getLogger(__name__)

#: Formulations whose feasible inputs and outputs are exactly the network's graph.
EXACT = (BigM, Cuts, Hull, Partition)
#: With more inputs that can move the MIP is the better search, unless sides of neurons
#: can be split instead.
MOST_INPUTS = 10
#: The share of the time where it is not.
BOXES_ONLY = 0.2


@dataclass
class Boxed:
    """What the boxes found.

    Attributes
    ----------
    point : (n_columns,) array
        Feasible in the standard form.
    value, bound : float
        Of the model's objective, there and at best.
    proven : bool
        Whether they are within the gap.
    stopped : str or None
        ``"interrupt"`` after Ctrl-C or where ``progress`` said so.
    boxes : int
    seconds : float
    """

    point: np.ndarray
    value: float
    bound: float
    proven: bool
    stopped: str | None
    boxes: int
    seconds: float

    def __str__(self) -> str:
        state = "proven" if self.proven else "open"
        return (
            f"{self.boxes} boxes in {self.seconds:.2f} s, objective {self.value:.8g}, "
            f"bound {self.bound:.8g}, {state}"
        )


def may_go_first(model, form: StandardForm, problem: NetworkProblem) -> bool:
    """Whether boxes answer the question that the model asks.

    Parameters
    ----------
    model : BlockData
    form : StandardForm
        Of the whole model.
    problem : NetworkProblem
        Its networks.
    """
    if not form.is_mip or form.objective is None:
        return False
    for one in problem.maps:
        block = one.block
        if any(type(f) not in EXACT for f in block.formulations.values()):
            return False
        for node in block.network.nodes:
            if isinstance(node, PiecewiseLinear) and not node.is_continuous:
                return False  # at a step a model may choose, a network may not
        if problem.layer_columns[one.matrix.indices].any():
            return False  # it reads a variable inside of another network
    if not all(is_as_written(block) for block in network_blocks(model)):
        return False
    users = form.matrix[~problem.layer_rows]
    touched = problem.layer_columns[users.indices].any()
    return not (touched or form.cost[problem.layer_columns].any())


def search_boxes(
    model,
    form: StandardForm,
    problem: NetworkProblem,
    *,
    nodes: int,
    cpu_seconds: float,
    seconds: float,
    gaps: tuple[float, float] = (1e-4, 1e-6),
    report: Callable[[float, float, float, float, int], Any] | None = None,
) -> Boxed | None:
    """Search the inputs by boxes; None where that gives nothing to go by.

    Parameters
    ----------
    model, form, problem
        The same model, three times.
    nodes : int
        Boxes bounded at most.
    cpu_seconds, seconds : float
        Of the process and on the clock, at most.
    gaps : (float, float)
        Relative and absolute.
    report : callable, optional
        Called with seconds, incumbent, bound, gap and boxes, now and then; a true
        return value ends the search.

    Raises
    ------
    KeyboardInterrupt
        After Ctrl-C before there was a point.
    TimeUp
        Where the time was too short to read the model.
    """
    begin = time.perf_counter()
    if _parts(problem) > 1:
        return None
    inputs = read_problem(model, Deadline(seconds))
    if inputs.infeasible or inputs.unbounded or inputs.network is None:
        return None
    low, high = inputs.box
    if not NeuronSearch.fits(inputs):
        if (low < high).sum() > MOST_INPUTS:
            return None
        cpu_seconds, seconds = BOXES_ONLY * cpu_seconds, BOXES_ONLY * seconds
    if len(find_subsystems(inputs)) != 1:
        return None
    asked = False

    def tell(tree: CostSearch, kind: str) -> bool:
        nonlocal asked
        if report is not None:
            found = inputs.user_objective(tree.incumbent.cost)
            bound = inputs.user_objective(tree.bound)
            now = (
                tree.deadline.elapsed,
                found,
                bound,
                gap_of(found, bound),
                tree.counts.boxes,
            )
            asked |= bool(report(*now))
        return asked

    # A little less than asked for, so that margins of bounds can't open the gap again.
    limits = Limits(0.95 * gaps[0], 0.8 * gaps[1], seconds, cpu_seconds, nodes)
    search = by_turns(inputs, limits, report=tell)
    search.run()
    point = None
    if search.incumbent.point is not None:
        point = _in_columns(form, problem, inputs, search.incumbent.point)
    if point is None:
        if search.stopped == "interrupt":
            raise KeyboardInterrupt  # with nothing to show for it
        return None
    value, bound = form.objective_value(point), inputs.user_objective(search.bound)
    scale = max(1.0, abs(value))
    if abs(value - inputs.user_objective(search.incumbent.cost)) > 1e-6 * scale:
        logger.warning("boxes and model disagree on the objective; boxes are left out.")
        return None
    missing = (bound - value) if form.maximize else (value - bound)
    stopped = "interrupt" if asked or search.stopped == "interrupt" else None
    return Boxed(
        point,
        value,
        bound,
        missing <= max(gaps[1], gaps[0] * abs(value)),
        stopped,
        search.counts.boxes,
        time.perf_counter() - begin,
    )


def _parts(problem: NetworkProblem) -> int:
    """Into how many parts the networks fall that share no variable that can move."""
    low, high = problem.driver_box
    fixed = set(problem.drivers[low >= high].tolist())
    group = list(range(len(problem.maps)))

    def root(k: int) -> int:
        while group[k] != k:
            k = group[k]
        return k

    owner: dict[int, int] = {}
    moving = []
    for k, one in enumerate(problem.maps):
        reads = [j for j in one.reads.tolist() if j not in fixed]
        for j in [*reads, *one.outputs[one.outputs >= 0].tolist()]:
            group[root(owner.setdefault(j, k))] = root(k)
        if reads:
            moving.append(k)
    return len({root(k) for k in moving})


def _in_columns(
    form: StandardForm, problem: NetworkProblem, inputs: Problem, found: np.ndarray
) -> np.ndarray | None:
    """The search's point in all columns of the model; None if it doesn't hold there."""
    numbers = form.column_numbers()
    point = np.full(len(form.columns), math.nan)
    for v, x in zip(inputs.columns, found.tolist()):
        j = numbers.get(id(v))
        if j is not None:
            point[j] = x
    if np.isnan(point[problem.drivers]).any() or np.isnan(point[problem.rest]).any():
        return None
    point[problem.layer_columns] = 0.0
    point = problem.fill_layers(np.nan_to_num(point, nan=0.0))
    return point if form.violation(point) <= START.feasible else None
