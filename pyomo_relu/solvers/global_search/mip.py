"""A box as a mixed-integer program: only its undecided units get binaries.

The encoder of networks (:mod:`pyomo_relu.bounds.array_model`) folds decided neurons away,
so a box with a few undecided ones is a small dense MIP. With a *pattern*, every unit stays
on its piece instead: the linear region around a point, for the search for incumbents.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pyomo_relu.base.deadline import Deadline
from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.bounds.array_model import ArrayModel
from pyomo_relu.bounds.crown import crown_arrays
from pyomo_relu.presolve.problem import Problem
from pyomo_relu.programs import (
    NETWORK_DEFAULTS,
    Answer,
    HighsModel,
    LinearProgram,
    ProgramBuilder,
    Rows,
    ScaledProgram,
    Status,
    part_of,
    scaled_program,
)


@dataclass(frozen=True)
class Tolerances:
    """What is asked of HiGHS, and how far it is believed; chosen by hand."""

    #: Of rows, bounds and integrality.
    feasibility: float = 1e-8
    #: The least absolute gap at which HiGHS stops.
    absolute_gap: float = 1e-9
    #: What is taken off a bound, relative to it: HiGHS's rows hold to a tolerance only.
    margin: float = 1e-7

    def lowered(self, bound: float) -> float:
        """A lower bound of HiGHS's less the margin."""
        return bound - self.margin * max(1.0, abs(bound)) if math.isfinite(bound) else bound


TOLERANCES = Tolerances()


@dataclass
class BoxAnswer:
    """What HiGHS says about a box.

    Attributes
    ----------
    point : (m,) array or None
        Values of the problem's columns.
    bound : float
        A valid lower bound of the cost; infinite if the box holds no point.
    solved : bool
        Whether the box is done with: solved or empty.
    reason : str or None
        Why it isn't: ``"time"``, ``"interrupt"`` or ``"unbounded"``.
    """

    point: np.ndarray | None
    bound: float
    solved: bool
    reason: str | None = None


def node_ranges(
    p: Problem, low: np.ndarray, high: np.ndarray
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Bounds of every node over a box of the drivers; none without a network."""
    if p.network is None:
        return [], []
    lows, highs = crown_arrays(p.network, low[None], high[None])
    return [a[0] for a in lows], [a[0] for a in highs]


def builder_of(program: LinearProgram) -> ProgramBuilder:
    """The columns and rows of a program, to which more are added."""
    whole = ProgramBuilder()
    integer = False if program.integer is None else program.integer
    whole.add_columns(program.lower, program.upper, integer)
    parts = [part_of(program.matrix)]
    whole.add_rows(len(program.row_lower), parts, program.row_lower, program.row_upper)
    return whole


def add_network(
    whole: ProgramBuilder, model: ArrayModel, inputs: np.ndarray, outputs: np.ndarray
) -> np.ndarray:
    """Add an encoded network to a program that has columns for its inputs and outputs.

    Parameters
    ----------
    whole : ProgramBuilder
    model : ArrayModel
        Its target are the network's outputs.
    inputs, outputs : int arrays
        The columns; of the outputs as many as are wanted, the first ones.

    Returns
    -------
    (n_columns,) int array
        The number in the program of each of the encoder's columns.
    """
    (first,) = model.network.inputs
    needed = model.needed.get(first, np.zeros(len(inputs), dtype=bool))
    taken = inputs[np.flatnonzero(needed)]
    # The inputs are the encoder's first columns; the others are new.
    more = whole.add_columns(*(a[len(taken) :] for a in model.columns()))
    place = np.concatenate([taken, more])
    whole.add_program(model, place)
    every = np.arange(len(outputs))
    queries, const, _ = model.affine_rows(model.target, every)
    r, columns, values = part_of(queries)
    rows = [(r, place[columns], -values), (every, outputs, 1.0)]
    whole.add_rows(len(every), rows, const, const)
    return place


class BoxMIP:
    """The problem over one box, in HiGHS.

    Parameters
    ----------
    problem : Problem
    lower, upper : (m,) arrays
        Bounds of all columns, the box among them.
    lows, highs : lists of (size,) arrays
        Bounds of every node over the box.
    pattern : list of (size,) arrays, optional
        Values of every node at a point whose linear region is wanted.
    """

    def __init__(
        self,
        problem: Problem,
        lower: np.ndarray,
        upper: np.ndarray,
        lows: Sequence[np.ndarray],
        highs: Sequence[np.ndarray],
        pattern: Sequence[np.ndarray] | None = None,
    ) -> None:
        p = self.problem = problem
        self.m = len(p.columns)
        self.program = LinearProgram(
            p.cost, lower, upper, p.matrix, p.row_lower, p.row_upper, p.integer
        )
        if p.network is not None:
            last = p.network.outputs[0]
            self._add_network(
                ArrayModel(
                    p.network,
                    lows,
                    highs,
                    last,
                    np.arange(p.q),
                    integer=True,
                    fold=True,
                    pattern=pattern,
                )
            )

    def _add_network(self, model: ArrayModel) -> None:
        """Put the encoded network below the problem's rows, inputs to drivers."""
        p, user = self.problem, self.program
        whole = builder_of(user)
        add_network(whole, model, np.arange(p.n), p.n + np.arange(p.q))
        self.program = whole.program
        self.program.cost[: self.m] = user.cost

    # ---------------------------------------------------------------------- solving
    def solve(
        self,
        cutoff: float = math.inf,
        time_limit: float = math.inf,
        gap: float = 0.0,
        start: np.ndarray | None = None,
        relative: float = 0.0,
        stop: Callable[[], bool] | None = None,
        nodes: int | None = None,
        keep: bool = False,
    ) -> BoxAnswer:
        """Minimize the cost over the box, as far as it is below ``cutoff``.

        Parameters
        ----------
        cutoff : float
            Points that cost more are of no interest.
        time_limit : float
        gap, relative : float
            Absolute and relative gap at which HiGHS may stop.
        start : (m,) array, optional
            A feasible point of the problem.
        stop : callable, optional
            Asked now and then; true ends the solve.
        nodes : int, optional
            Nodes of HiGHS's tree at most.
        keep : bool
            Whether Ctrl-C ends the run and gives its answer instead of an error.
        """
        program = self.program
        if math.isfinite(cutoff) and program.cost.any():
            # A row prunes as a cut-off does, and presolve understands it.
            cost = sp.csr_array(program.cost[None])
            rows = Rows(cost, np.array([-math.inf]), np.array([cutoff]))
            program = program.with_rows(rows)
        deadline = Deadline(max(time_limit, 0.0))
        scaled = scaled_program(program)
        highs = HighsModel(
            scaled.program,
            mip_rel_gap=relative,
            mip_abs_gap=max(gap, TOLERANCES.absolute_gap),
            mip_feasibility_tolerance=TOLERANCES.feasibility,
            primal_feasibility_tolerance=TOLERANCES.feasibility,
            **NETWORK_DEFAULTS,
        )
        if start is not None:
            self._start(highs, scaled, np.asarray(start, dtype=float), time_limit)
        if nodes is not None:
            highs.set(mip_max_nodes=nodes)
        if stop is not None:
            highs.stop_when(lambda event: stop())
        answer = highs.run(deadline.left(), keep=keep)
        return self._answer(answer, cutoff, scaled.factors[: self.m])

    def _start(
        self, highs: HighsModel, scaled: ScaledProgram, start: np.ndarray, limit: float
    ) -> None:
        """Start from a point of the problem."""
        whole = self.completed(highs, scaled, start, limit)
        if whole is not None:
            highs.start_at(whole)

    def completed(
        self, highs: HighsModel, scaled: ScaledProgram, start: np.ndarray, limit: float
    ) -> np.ndarray | None:
        """All columns at a point (m,) of the problem; what lies inside is solved for.

        Parameters
        ----------
        highs : HighsModel
            Holds the scaled program, which it has again at the end.
        scaled : ScaledProgram
        start : (m,) array
        limit : float
            Seconds.
        """
        p = self.problem
        known = np.setdiff1d(np.arange(self.m), p.n + np.arange(p.q))
        start = start * scaled.factors[: self.m]
        highs.set_bounds(start[known], start[known], known)
        whole = highs.run(limit).point
        highs.set_bounds(scaled.program.lower, scaled.program.upper)
        highs.forget()
        return whole

    def _answer(self, answer: Answer, cutoff: float, factors: np.ndarray) -> BoxAnswer:
        if answer.infeasible:
            return BoxAnswer(None, TOLERANCES.lowered(cutoff), True)
        point = None if answer.point is None else answer.point[: self.m] / factors
        bound = min(answer.bound, math.inf if answer.optimal else cutoff)
        bound = TOLERANCES.lowered(bound)
        if answer.optimal:
            return BoxAnswer(point, bound, True)
        reason = {
            Status.INTERRUPTED: "interrupt",
            Status.UNBOUNDED: "unbounded",
            Status.INFEASIBLE_OR_UNBOUNDED: "unbounded",
        }.get(answer.status, "time")
        return BoxAnswer(point, bound, False, reason)
