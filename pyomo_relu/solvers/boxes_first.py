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
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pyomo_relu.base.deadline import Deadline
from pyomo_relu.block import is_as_written
from pyomo_relu.bounds.many_pieces import has_many_pieces
from pyomo_relu.formulations import BigM, Cuts, Hull, Logarithmic, Partition, network_blocks
from pyomo_relu.heuristics.network_columns import NetworkProblem
from pyomo_relu.heuristics.start_settings import START
from pyomo_relu.network import PiecewiseLinear
from pyomo_relu.presolve.problem import Problem
from pyomo_relu.presolve.reading import read_problem
from pyomo_relu.programs.standard_form import StandardForm
from pyomo_relu.solvers.global_search.cost_search import CostSearch
from pyomo_relu.solvers.global_search.limits import Limits
from pyomo_relu.solvers.global_search.neuron_search import NeuronSearch
from pyomo_relu.solvers.global_search.strategy import by_turns
from pyomo_relu.solvers.global_search.subsystems import connected, find_subsystems
from pyomo_relu.solvers.highs_settings import SETTINGS
from pyomo_relu.solvers.watch import Progress

logger = logging.getLogger(__name__)

#: Formulations whose feasible inputs and outputs are exactly the network's graph.
EXACT = (BigM, Cuts, Hull, Logarithmic, Partition)


@dataclass
class Boxed:
    """What the boxes found.

    Attributes
    ----------
    point : (n_columns,) array
        Feasible in the standard form.
    value, bound : float
        The model's objective there, and a bound of it.
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


def may_go_first(model: Any, form: StandardForm, problem: NetworkProblem) -> bool:
    """Whether boxes answer the question that the model asks.

    Parameters
    ----------
    model : BlockData
    form : StandardForm
        The whole model as arrays.
    problem : NetworkProblem
        Its networks.
    """
    if not form.is_mip or form.objective is None:
        return False
    inside = problem.layer_columns
    for one in problem.maps:
        exact = all(type(f) in EXACT for f in one.block.formulations.values())
        # At a step a model may choose, a network may not.
        steps = any(
            isinstance(node, PiecewiseLinear) and not node.is_continuous
            for node in one.block.network.nodes
        )
        if not exact or steps or inside[one.matrix.indices].any():
            return False
    if not all(is_as_written(block) for block in network_blocks(model)):
        return False
    users = form.matrix[~problem.layer_rows]
    return not (inside[users.indices].any() or form.cost[inside].any())


def search_boxes(
    model: Any,
    form: StandardForm,
    problem: NetworkProblem,
    *,
    nodes: int,
    cpu_seconds: float,
    seconds: float,
    gaps: tuple[float, float] = (1e-4, 1e-6),
    report: Callable[[Progress], Any] | None = None,
) -> Boxed | None:
    """Search the inputs by boxes; None where that gives nothing to go by.

    Parameters
    ----------
    model, form, problem
        The same model, three times.
    nodes : int
        Boxes bounded at most.
    cpu_seconds, seconds : float
        How long the boxes may take of the process's time, and on the clock.
    gaps : (float, float)
        Relative and absolute.
    report : callable, optional
        Called now and then; a true return value ends the search.

    Raises
    ------
    KeyboardInterrupt
        After Ctrl-C before there was a point.
    TimeUp
        Where the time was too short to read the model.
    """
    deadline = Deadline(seconds)
    if _parts(problem) > 1:
        return None
    inputs = read_problem(model, deadline)
    share = _share(inputs)
    if share <= 0:
        return None
    limits = Limits(
        rel_gap=SETTINGS.rel_gap * gaps[0],
        abs_gap=SETTINGS.abs_gap * gaps[1],
        time_limit=share * seconds,
        cpu_time_limit=share * cpu_seconds,
        node_limit=nodes,
    )
    asked = False

    def tell(search: CostSearch, kind: str) -> bool:
        nonlocal asked
        asked |= report is not None and bool(report(search.progress("boxes")))
        return asked

    search = by_turns(inputs, limits, report=tell)
    search.run()
    interrupted = search.stopped == "interrupt"
    point = _in_columns(form, problem, inputs, search.incumbent.point)
    if point is None:
        if interrupted:
            raise KeyboardInterrupt  # with nothing to show for it
        return None
    value, bound = form.objective_value(point), inputs.user_objective(search.bound)
    differ = abs(value - inputs.user_objective(search.incumbent.cost))
    if differ > SETTINGS.differ * max(1.0, abs(value)):
        logger.warning("boxes and model disagree on the objective; boxes are left out.")
        return None
    missing = (bound - value) if form.maximize else (value - bound)
    return Boxed(
        point=point,
        value=value,
        bound=bound,
        proven=missing <= max(gaps[1], gaps[0] * abs(value)),
        stopped="interrupt" if asked or interrupted else None,
        boxes=search.counts.boxes,
        seconds=deadline.elapsed,
    )


def _share(inputs: Problem) -> float:
    """The share of the time that boxes get; 0 where they are of no use."""
    if inputs.infeasible or inputs.unbounded or inputs.network is None:
        return 0.0
    if len(find_subsystems(inputs)) != 1:
        return 0.0
    if NeuronSearch.fits(inputs):
        return 1.0
    low, high = inputs.box
    if np.count_nonzero(low < high) > SETTINGS.most_inputs:
        return 0.0
    curves = any(
        isinstance(node, PiecewiseLinear) and has_many_pieces(node)
        for node in inputs.network.nodes
    )
    return SETTINGS.boxes_of_curves if curves else SETTINGS.boxes_only


def _parts(problem: NetworkProblem) -> int:
    """Into how many parts the networks fall that share no variable that can move."""
    low, high = problem.driver_box
    fixed = set(problem.drivers[low >= high].tolist())
    owner: dict[int, int] = {}
    pairs, moving = [], []
    for k, one in enumerate(problem.maps):
        reads = [j for j in one.reads.tolist() if j not in fixed]
        writes = one.outputs[one.outputs >= 0].tolist()
        pairs += [(owner.setdefault(j, k), k) for j in [*reads, *writes]]
        if reads:
            moving.append(k)
    return len(np.unique(connected(len(problem.maps), pairs)[moving]))


def _in_columns(
    form: StandardForm, problem: NetworkProblem, inputs: Problem, found: np.ndarray | None
) -> np.ndarray | None:
    """The search's point in all columns of the model; None if it doesn't hold there."""
    if found is None:
        return None
    point = problem.from_columns(inputs.columns, found)
    return None if point is None or form.violation(point) > START.feasible else point
