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
from collections.abc import Sequence

import numpy as np

from pyomo_relu.base.deadline import Deadline
from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.base.rounding import EPS
from pyomo_relu.bounds import Bounds, compute_bounds
from pyomo_relu.bounds.array_model import ArrayModel
from pyomo_relu.bounds.linear import undecided
from pyomo_relu.network import Affine, Network, PiecewiseLinear
from pyomo_relu.presolve.functions import NetworkFunction
from pyomo_relu.presolve.problem import Problem
from pyomo_relu.programs import Certifier, HighsModel, LinearProgram, Rows, part_of
from pyomo_relu.solvers.global_search.mip import add_network, builder_of
from pyomo_relu.solvers.global_search.settings import NARROWING


class Narrowing:
    """Bounds of a program's columns and of its networks' nodes that become narrower.

    Parameters
    ----------
    program : LinearProgram
        To be minimized; integers are taken for continuous ones.
    functions : sequence of NetworkFunction
        Networks between its columns, each after those that it reads.
    cutoff : float
        The best point's cost; infinite without one.
    deadline : Deadline
        What isn't reached keeps its bounds.
    known : list of Ranges, optional
        Bounds of the networks' nodes that hold already.

    Attributes
    ----------
    lower, upper : (n_columns,) arrays
        Of all columns.
    ranges : list of Ranges
        Of all nodes of each network.
    """

    def __init__(
        self,
        program: LinearProgram,
        functions: Sequence[NetworkFunction],
        cutoff: float,
        deadline: Deadline,
        known: list[Ranges] | None = None,
    ) -> None:
        self.program, self.functions = program, list(functions)
        self.cutoff, self.deadline = cutoff, deadline
        self.lower, self.upper = program.lower.copy(), program.upper.copy()
        none = np.zeros(0, dtype=int)
        #: The columns that networks read.
        self.inputs = np.unique(np.concatenate([none, *(f.inputs for f in functions)]))
        self.ranges = known or [Ranges.over(f.network, *self._box(f)) for f in functions]
        self._empty = False
        if known:
            self._renew()

    @classmethod
    def of_problem(cls, p: Problem, cutoff: float, deadline: Deadline) -> Narrowing:
        """That of a problem with its networks composed into one."""
        assert p.network is not None
        whole = NetworkFunction("networks", p.network, np.arange(p.n), p.n + np.arange(p.q))
        return cls(p, [whole], cutoff, deadline)

    def run(self) -> None:
        """Narrow all bounds, and again while they become clearly narrower."""
        for _ in range(NARROWING.rounds):
            before = self.width
            self._inputs()
            for layer in range(max((len(one.sources) for one in self.ranges), default=0)):
                self._neurons(layer)
            if self._done or self.width > NARROWING.smaller * before:
                return

    @property
    def _done(self) -> bool:
        return self._empty or self.deadline.expired()

    @property
    def width(self) -> float:
        """How wide undecided pre-activations are, all together."""
        return sum(one.width for one in self.ranges)

    def _box(self, f: NetworkFunction) -> tuple[np.ndarray, np.ndarray]:
        low = self.lower[f.inputs]
        return low, np.maximum(low, self.upper[f.inputs])

    # -------------------------------------------------------------------------- programs
    def _program(self) -> tuple[_Relaxation, _Ends]:
        """The relaxation over the present bounds, with the row of the cost."""
        p = self.program
        base = LinearProgram(
            p.cost, self.lower, self.upper, p.matrix, p.row_lower, p.row_upper, p.integer
        )
        relaxation = _Relaxation(base, self.functions, self.ranges)
        program = relaxation.program
        if math.isfinite(self.cutoff) and program.cost.any():
            program = program.with_rows(cost_row(program.cost, self.cutoff))
        return relaxation, _Ends(program, self.deadline)

    def _inputs(self) -> None:
        """Bound the columns that networks read."""
        free = self.inputs[self.lower[self.inputs] < self.upper[self.inputs]]
        if self._done or len(free) > NARROWING.most_inputs:
            return
        _, ends = self._program()
        unit = np.zeros(ends.n_columns)
        whole = self.program.integer
        for j in free.tolist():
            unit[j] = 1.0
            least, most = ends.of(unit, 0.0, 0.0)
            unit[j] = 0.0
            if whole is not None and whole[j]:
                least, most = float(np.ceil(least)), float(np.floor(most))
            if least > most:
                self._empty = True
                return
            self.lower[j] = min(max(self.lower[j], least), self.upper[j])
            self.upper[j] = max(min(self.upper[j], most), self.lower[j])
        self._renew()

    def _neurons(self, layer: int) -> None:
        """Bound the pre-activations of one layer of each network that aren't decided."""
        waiting = [
            (k, one.sources[layer])
            for k, one in enumerate(self.ranges)
            if layer < len(one.sources) and len(one.open(one.sources[layer]))
        ]
        if self._done or not waiting:
            return
        relaxation, ends = self._program()
        for k, source in waiting:
            if not self._layer(k, source, relaxation, ends) or self.deadline.expired():
                break
        if not self._empty:
            self._renew()

    def _layer(self, k: int, source: int, relaxation: _Relaxation, ends: _Ends) -> bool:
        """Bound the entries of one node of a network; whether there may be a point."""
        one = self.ranges[k]
        rows = one.open(source)
        rows = rows[relaxation.needs(k, source)[rows]]
        low, high = one.lows[source].copy(), one.highs[source].copy()
        for first in range(0, len(rows), NARROWING.at_once):
            some = rows[first : first + NARROWING.at_once]
            matrix, const, noise = relaxation.rows_of(k, source, some)
            for i, u in enumerate(some.tolist()):
                least, most = ends.of(matrix[i], float(const[i]), float(noise[i]))
                if least > most:
                    self._empty = True
                    return False
                low[u] = min(max(low[u], least), high[u])
                high[u] = max(min(high[u], most), low[u])
            if self.deadline.expired():
                break
        one.lows[source], one.highs[source] = low, high
        return True

    def _renew(self) -> None:
        """What the new numbers say about the nodes above, and about networks' outputs."""
        for f, one in zip(self.functions, self.ranges):
            one.renew(*self._box(f))
            last = one.network.outputs[0]
            # An output that is bounded more narrowly by rows keeps these bounds.
            low, high = one.lows[last], one.highs[last]
            count = len(f.outputs)
            more = NARROWING.margin * (1.0 + np.maximum(abs(low), abs(high)))[:count]
            low, high = low[:count] - more, high[:count] + more
            before = self.lower[f.outputs], self.upper[f.outputs]
            self.lower[f.outputs] = np.minimum(np.maximum(before[0], low), before[1])
            self.upper[f.outputs] = np.maximum(
                np.minimum(before[1], high), self.lower[f.outputs]
            )


class Ranges:
    """Bounds of all nodes of a network.

    Parameters
    ----------
    network : Network
    lows, highs : lists of (size,) arrays
    """

    def __init__(
        self, network: Network, lows: list[np.ndarray], highs: list[np.ndarray]
    ) -> None:
        self.network, self.lows, self.highs = network, lows, highs
        nodes = network.nodes
        units = [node for node in nodes if isinstance(node, PiecewiseLinear)]
        self._units = [u for u in units if isinstance(nodes[u.source], Affine)]
        #: The nodes of pre-activations, from the inputs on.
        self.sources = sorted({u.source for u in self._units})

    @classmethod
    def over(cls, network: Network, low: np.ndarray, high: np.ndarray) -> Ranges:
        """The bounds over a box."""
        found = compute_bounds(network, low, high)
        return cls(network, list(found.lower), list(found.upper))

    def open(self, source: int) -> np.ndarray:
        """Which entries of a node some unit isn't decided for, as numbers."""
        low, high = self.lows[source], self.highs[source]
        found = np.zeros(len(low), dtype=bool)
        for node in self._units:
            if node.source == source:
                found |= undecided(node, low, high)
        return np.flatnonzero(found)

    @property
    def width(self) -> float:
        """How wide undecided pre-activations are, all together."""
        widths = [(self.highs[s] - self.lows[s])[self.open(s)] for s in self.sources]
        return float(sum(width.sum() for width in widths))

    def renew(self, low: np.ndarray, high: np.ndarray) -> None:
        """Bound all nodes over a box that may be narrower, from what is known."""
        known = Bounds(self.network, tuple(self.lows), tuple(self.highs), "model")
        found = compute_bounds(self.network, low, high, "crown", known)
        self.lows, self.highs = list(found.lower), list(found.upper)


class _Relaxation:
    """The linear relaxation of a program and its networks over bounds."""

    def __init__(
        self,
        program: LinearProgram,
        functions: Sequence[NetworkFunction],
        ranges: Sequence[Ranges],
    ) -> None:
        whole = builder_of(program)
        self._encoded: list[tuple[ArrayModel, np.ndarray]] = []
        for f, one in zip(functions, ranges):
            rows, last = np.arange(len(f.outputs)), f.network.outputs[0]
            model = ArrayModel(f.network, one.lows, one.highs, last, rows)
            self._encoded.append((model, add_network(whole, model, f.inputs, f.outputs)))
        self.program = whole.program
        self.program.cost[: len(program.cost)] = program.cost

    def needs(self, k: int, node: int) -> np.ndarray:
        """Which entries of a node outputs depend on over these bounds, (size,) bool."""
        model, _ = self._encoded[k]
        none = np.zeros(model.network.nodes[node].size, dtype=bool)
        return model.needed.get(node, none)

    def rows_of(
        self, k: int, node: int, rows: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Entries of an affine node of a network over the program's columns.

        Parameters
        ----------
        k, node : int
        rows : (r,) int array
            Of those that :meth:`needs` names: what others read may have no columns.

        Returns
        -------
        matrix : (r, n_columns) array
        const : (r,) array
        noise : (r,) array
            How far rounding may move each.
        """
        model, place = self._encoded[k]
        over, const, noise = model.affine_rows(node, rows)
        matrix = np.zeros((len(rows), len(self.program.cost)))
        r, columns, values = part_of(over)
        matrix[r, place[columns]] = values
        return matrix, const, noise


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
