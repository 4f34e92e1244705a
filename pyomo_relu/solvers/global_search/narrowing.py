"""Inputs and pre-activations over what the rows and the best point leave of the box.

Big-M constants over the box alone are far too large where rows of the model bind inputs
and outputs. Each pre-activation that isn't decided, and each input, is minimized and
maximized over the linear relaxation of the whole problem, with a row that asks for a cost
no higher than the best point's. What is found holds for all points that are as good, which
is all that a search still looks for.

Source: Gleixner, Berthold, Müller and Weltge, "Three enhancements for optimization-based
bound tightening", J. Global Optim. 67, 2017; for networks Grimstad and Andersson,
arXiv 1907.03140, section 4.
"""

from __future__ import annotations

import math

import numpy as np

from pyomo_relu.base.deadline import Deadline
from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.base.rounding import EPS
from pyomo_relu.bounds import Bounds, compute_bounds
from pyomo_relu.bounds.linear import undecided
from pyomo_relu.network import Affine, PiecewiseLinear
from pyomo_relu.presolve.problem import Problem
from pyomo_relu.programs import Certifier, HighsModel, LinearProgram, Rows
from pyomo_relu.solvers.global_search.mip import BoxMIP
from pyomo_relu.solvers.global_search.settings import NARROWING


class Narrowing:
    """Bounds of a problem's columns and nodes that become narrower.

    Parameters
    ----------
    problem : Problem
        With a network.
    cutoff : float
        The best point's cost; infinite without one.
    deadline : Deadline
        What isn't reached keeps its bounds.

    Attributes
    ----------
    lower, upper : (m,) arrays
        Of all columns.
    lows, highs : lists of (size,) arrays
        Of all nodes of the network.
    """

    def __init__(self, problem: Problem, cutoff: float, deadline: Deadline) -> None:
        assert problem.network is not None
        self.problem, self.network = problem, problem.network
        self.cutoff, self.deadline = cutoff, deadline
        self.lower, self.upper = problem.lower.copy(), problem.upper.copy()
        found = compute_bounds(self.network, *problem.box)
        self.lows, self.highs = list(found.lower), list(found.upper)
        self._empty = False

    def run(self) -> None:
        """Narrow all bounds, and again while they become clearly narrower."""
        for _ in range(NARROWING.rounds):
            before = self.width
            self._inputs()
            for source in self._sources():
                self._neurons(source)
            if self._done or self.width > NARROWING.smaller * before:
                return

    @property
    def _done(self) -> bool:
        return self._empty or self.deadline.expired()

    def _units(self) -> list[PiecewiseLinear]:
        nodes = self.network.nodes
        units = [node for node in nodes if isinstance(node, PiecewiseLinear)]
        return [node for node in units if isinstance(nodes[node.source], Affine)]

    def _sources(self) -> list[int]:
        """The nodes of pre-activations, from the inputs on."""
        return sorted({node.source for node in self._units()})

    def _open(self, source: int) -> np.ndarray:
        """Which entries of a node some unit isn't decided for, as numbers."""
        low, high = self.lows[source], self.highs[source]
        found = np.zeros(len(low), dtype=bool)
        for node in self._units():
            if node.source == source:
                found |= undecided(node, low, high)
        return np.flatnonzero(found)

    @property
    def width(self) -> float:
        """How wide undecided pre-activations are, all together."""
        widths = [(self.highs[s] - self.lows[s])[self._open(s)] for s in self._sources()]
        return float(sum(width.sum() for width in widths))

    # -------------------------------------------------------------------------- programs
    def _program(self) -> tuple[BoxMIP, _Ends]:
        """The relaxation over the present bounds, with the row of the cost."""
        mip = BoxMIP(
            self.problem, self.lower, self.upper, self.lows, self.highs, relaxed=True
        )
        program = mip.program
        if math.isfinite(self.cutoff) and program.cost.any():
            program = program.with_rows(cost_row(program.cost, self.cutoff))
        return mip, _Ends(program, self.deadline)

    def _inputs(self) -> None:
        """Bound the problem's columns that are inputs of the network."""
        p = self.problem
        free = np.flatnonzero(self.lower[: p.n] < self.upper[: p.n])
        if self._done or len(free) > NARROWING.most_inputs:
            return
        _, ends = self._program()
        unit = np.zeros(ends.n_columns)
        for j in free.tolist():
            unit[j] = 1.0
            least, most = ends.of(unit, 0.0, 0.0)
            unit[j] = 0.0
            if p.integer[j]:
                least, most = float(np.ceil(least)), float(np.floor(most))
            if least > most:
                self._empty = True
                return
            self.lower[j] = min(max(self.lower[j], least), self.upper[j])
            self.upper[j] = max(min(self.upper[j], most), self.lower[j])
        self._renew()

    def _neurons(self, source: int) -> None:
        """Bound the pre-activations of one node that aren't decided."""
        rows = self._open(source)
        if self._done or not len(rows):
            return
        mip, ends = self._program()
        rows = rows[mip.needs(source)[rows]]
        low, high = self.lows[source].copy(), self.highs[source].copy()
        for first in range(0, len(rows), NARROWING.at_once):
            some = rows[first : first + NARROWING.at_once]
            matrix, const, noise = mip.rows_of(source, some)
            for k, u in enumerate(some.tolist()):
                least, most = ends.of(matrix[k], float(const[k]), float(noise[k]))
                if least > most:
                    self._empty = True
                    return
                low[u] = min(max(low[u], least), high[u])
                high[u] = max(min(high[u], most), low[u])
            if self.deadline.expired():
                break
        self.lows[source], self.highs[source] = low, high
        self._renew()

    def _renew(self) -> None:
        """What the new numbers say about the nodes above."""
        n = self.problem.n
        known = Bounds(self.network, tuple(self.lows), tuple(self.highs), "model")
        box = self.lower[:n], self.upper[:n]
        found = compute_bounds(self.network, *box, "crown", known)
        self.lows, self.highs = list(found.lower), list(found.upper)


def cost_row(cost: np.ndarray, cutoff: float) -> Rows:
    """A row for points that cost at most as much as one, which it leaves inside."""
    most = cutoff + NARROWING.margin * max(1.0, abs(cutoff))
    return Rows(sp.csr_array(cost[None]), np.array([-math.inf]), np.array([most]))


class _Ends:
    """A linear program, of which linear functions are minimized and maximized."""

    def __init__(self, program: LinearProgram, deadline: Deadline) -> None:
        known = np.where(np.isfinite(program.size), program.size, 0.0)
        terms = np.diff(program.matrix.indptr) + 4.0
        slack = 4.0 * EPS * terms * (abs(program.matrix) @ known)
        if program.row_slack is not None:
            slack = slack + program.row_slack
        program.row_slack = slack
        self.n_columns, self.deadline = len(program.cost), deadline
        self.certifier = Certifier(program)
        self.highs = HighsModel(program, relaxed=True, solver="simplex")
        self.highs.minimize()

    def of(self, cost: np.ndarray, const: float, noise: float) -> tuple[float, float]:
        """Both ends of ``cost @ z + const``; crossed where the program is empty."""
        least = self._minimum(cost)
        if least == math.inf:
            return math.inf, -math.inf
        most = self._minimum(-cost)
        if most == math.inf:
            return math.inf, -math.inf
        # Rows of the user's hold to a tolerance at a point that counts.
        low, high = least + const - noise, -most + const + noise
        more = NARROWING.margin
        return low - more * (1.0 + abs(low)), high + more * (1.0 + abs(high))

    def _minimum(self, cost: np.ndarray) -> float:
        """A proved bound; -inf where there is none, infinite where there is no point."""
        if self.deadline.expired():
            return -math.inf
        self.highs.set_costs(cost)
        answer = self.highs.run(min(NARROWING.seconds, self.deadline.left()))
        if answer.infeasible:
            return math.inf
        if not answer.optimal or answer.row_duals is None:
            self.highs.forget()
            return -math.inf
        return self.certifier.lower_bound(cost, answer.row_duals)
