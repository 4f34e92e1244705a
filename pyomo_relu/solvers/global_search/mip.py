r"""A box as a mixed-integer program: only its undecided units get binaries.

Every decided neuron is an affine function of the drivers and of the undecided ones and
is folded away, so a box with a few undecided units is a small dense MIP. A ReLU gets
the big-M constraints (Fischetti and Jo, 2018), any other function one binary and one
copy of its argument for each piece, a maximum one binary for each argument.

With a *pattern*, every unit instead stays on the piece that it takes at a point, and
rows keep it there: the linear region around the point, for the search for incumbents.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.bounds.linear import piecewise_lines
from pyomo_relu.network import Affine, Input, Max, PiecewiseLinear
from pyomo_relu.programs import (
    NETWORK_DEFAULTS,
    Answer,
    HighsModel,
    LinearProgram,
    Status,
    scaled_program,
)
from pyomo_relu.solvers.global_search.node_bounds import undecided
from pyomo_relu.solvers.global_search.problem import Problem

#: Terms from which on an argument is written in one row only.
LONG = 40


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


class BoxMIP:
    """Writes one box.

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

    def __init__(self, problem: Problem, lower, upper, lows, highs, pattern=None) -> None:
        self.problem, self.pattern = problem, pattern
        self.lows, self.highs = lows, highs
        self.n, self.m = problem.n, len(problem.columns)
        self.lower, self.upper = list(lower), list(upper)
        self.integer = list(problem.integer)
        self._rows: list[tuple[np.ndarray, np.ndarray]] = []
        self._low: list[float] = []
        self._high: list[float] = []
        # Expressions are rows over [drivers | extra columns]; room for all extras.
        self.room = self.n + self._count_extra()
        self.used = self.n
        self._factors = np.ones(self.m)
        self._write()

    # ------------------------------------------------------------------ the network
    def _count_extra(self) -> int:
        network = self.problem.network
        total = 0
        if network is None or self.pattern is not None:
            return 0
        for node in network.nodes:
            if isinstance(node, PiecewiseLinear):
                some = int(undecided(node, *self._range(node.source)).sum())
                total += some * (3 if node.is_relu else 1 + 2 * node.slopes.shape[1])
                total += node.size if self.n > LONG else 0
            elif isinstance(node, Max):
                total += node.size + len(node.indices)
        return total

    def _range(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        return self.lows[i], self.highs[i]

    def _column(self, low: float, high: float, integer: bool = False) -> int:
        """A new column; its place in expressions."""
        self.lower.append(low)
        self.upper.append(high)
        self.integer.append(integer)
        self.used += 1
        return self.used - 1

    def _row(self, coefs: np.ndarray, low: float, high: float) -> None:
        places = np.flatnonzero(coefs)
        columns = np.where(places < self.n, places, places - self.n + self.m)
        self._rows.append((columns, coefs[places]))
        self._low.append(low)
        self._high.append(high)

    def _unit(self, place: int) -> np.ndarray:
        row = np.zeros(self.room)
        row[place] = 1.0
        return row

    def _write(self) -> None:
        network = self.problem.network
        if network is None:
            return
        maps: list[tuple[np.ndarray, np.ndarray]] = []
        slices = dict(network.input_slices())
        for i, node in enumerate(network.nodes):
            if isinstance(node, Input):
                eye = np.zeros((node.size, self.room))
                eye[:, slices[i]] = np.eye(node.size)
                maps.append((eye, np.zeros(node.size)))
            elif isinstance(node, Affine):
                total: np.ndarray | float = 0.0
                const = node.bias
                for w, s in zip(node.weights, node.sources):
                    total, const = total + w @ maps[s][0], const + w @ maps[s][1]
                maps.append((np.asarray(total), const))
            elif isinstance(node, PiecewiseLinear):
                maps.append(self._piecewise(node, *maps[node.source]))
            else:
                assert isinstance(node, Max)
                maps.append(self._max(node, *maps[node.source]))
        a, b = maps[network.outputs[0]]
        for j in range(self.problem.q):
            row = -a[j]
            places = np.flatnonzero(row)
            columns = np.where(places < self.n, places, places - self.n + self.m)
            self._rows.append((np.append(columns, self.n + j), np.append(row[places], 1.0)))
            self._low.append(b[j])
            self._high.append(b[j])

    def _piecewise(self, node: PiecewiseLinear, a: np.ndarray, b: np.ndarray):
        low, high = self._range(node.source)
        if self.pattern is not None:
            value = self.pattern[node.source]
            piece = node.piece(value[None])[0]
            self._keep(node, a, b, piece, low, high)
            open_ = np.zeros(node.size, dtype=bool)
        else:
            open_ = undecided(node, low, high)
            piece = node.piece(low[None])[0]
        each = np.arange(node.size)
        slope, const = node.slopes[each, piece], node.intercepts[each, piece]
        if self.pattern is None and self.n > LONG:
            a, b = a.copy(), b.copy()
            for u in np.flatnonzero(~open_ & (slope != 0)):
                self._name(a, b, int(u), float(low[u]), float(high[u]))
        out, shift = slope[:, None] * a, slope * b + const
        for u in np.flatnonzero(open_):
            write = self._relu if node.is_relu else self._pieces
            place = write(node, int(u), a[u], float(b[u]), float(low[u]), float(high[u]))
            out[u], shift[u] = self._unit(place), 0.0
        return out, shift

    def _name(self, a, b, u: int, low: float, high: float) -> None:
        """A column for a long expression, so that the next layer's rows are short."""
        if np.count_nonzero(a[u]) > LONG:
            column = self._column(low, high)
            row = -a[u]
            row[column] = 1.0
            self._row(row, float(b[u]), float(b[u]))
            a[u], b[u] = self._unit(column), 0.0

    def _keep(self, node, a, b, piece, low, high) -> None:
        """Rows that hold each unit on its piece, where the box doesn't."""
        k = node.breakpoints.shape[1]
        for u, p in enumerate(piece):
            floor = node.breakpoints[u, p - 1] if p > 0 else -math.inf
            top = node.breakpoints[u, p] if p < k else math.inf
            if low[u] < floor or high[u] > top:
                self._row(a[u], floor - b[u], top - b[u])

    def _relu(self, node, u: int, a, b: float, low: float, high: float) -> int:
        y, d = self._column(0.0, high), self._column(0.0, 1.0, True)
        row = -a
        row[y] += 1.0
        if np.count_nonzero(a) <= LONG:
            self._row(row, b, math.inf)  # y >= x
            row = row.copy()
            row[d] -= low
            self._row(row, -math.inf, b - low)  # y <= x - low (1 - d)
        else:  # the same with s = y - x, so that a long row is written once
            s = self._column(0.0, -low)
            row[s] = -1.0
            self._row(row, b, b)
            row = np.zeros(self.room)
            row[s], row[d] = 1.0, -low
            self._row(row, -math.inf, -low)
        row = np.zeros(self.room)
        row[y], row[d] = 1.0, -high
        self._row(row, -math.inf, 0.0)  # y <= high d
        return y

    def _pieces(self, node, u: int, a, b: float, low: float, high: float) -> int:
        t = node.breakpoints[u]
        ends = np.concatenate([[low], np.clip(t, low, high), [high]])
        y = self._column(-math.inf, math.inf)
        argument, value, one = -a, -self._unit(y), np.zeros(self.room)
        for p in range(len(t) + 1):
            left, right = ends[p], ends[p + 1]
            # A piece of no length still counts at a breakpoint with a jump.
            if (p > 0 and high < t[p - 1]) or (p < len(t) and low >= t[p]):
                continue
            d = self._column(0.0, 1.0, True)
            w = self._column(min(left, 0.0), max(right, 0.0))
            row = np.zeros(self.room)
            row[w], row[d] = 1.0, -left
            self._row(row, 0.0, math.inf)
            row = np.zeros(self.room)
            row[w], row[d] = 1.0, -right
            self._row(row, -math.inf, 0.0)
            argument[w] += 1.0
            value[w], value[d] = node.slopes[u, p], node.intercepts[u, p]
            one[d] = 1.0
        self._row(argument, b, b)
        self._row(value, 0.0, 0.0)
        self._row(one, 1.0, 1.0)
        values = piecewise_lines(
            node, self.lows[node.source][None], self.highs[node.source][None], "constant"
        )
        self.lower[self.m + y - self.n] = float(values.lower_const[0, u])
        self.upper[self.m + y - self.n] = float(values.upper_const[0, u])
        return y

    def _max(self, node: Max, a: np.ndarray, b: np.ndarray):
        low, high = self._range(node.source)
        out, shift = np.zeros((node.size, self.room)), np.zeros(node.size)
        for j in range(node.size):
            group = np.unique(node.group(j))
            if self.pattern is not None:
                value = self.pattern[node.source][group]
                best = group[int(np.argmax(value))]
                for g in group[group != best]:
                    if high[g] > low[best]:
                        self._row(a[best] - a[g], b[g] - b[best], math.inf)
                out[j], shift[j] = a[best], b[best]
                continue
            floor = low[group].max()
            alive = group[high[group] >= floor]
            if len(alive) == 1:
                out[j], shift[j] = a[alive[0]], b[alive[0]]
                continue
            top = float(high[alive].max())
            y, one = self._column(float(floor), top), np.zeros(self.room)
            for g in alive:
                d = self._column(0.0, 1.0, True)
                row = self._unit(y) - a[g]
                self._row(row, b[g], math.inf)
                row = row.copy()
                row[d] = top - low[g]
                self._row(row, -math.inf, b[g] + top - low[g])
                one[d] = 1.0
            self._row(one, 1.0, 1.0)
            out[j] = self._unit(y)
        return out, shift

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
        """
        p = self.problem
        total = len(self.lower)
        cost = np.concatenate([p.cost, np.zeros(total - self.m)])
        pointer = np.concatenate([[0], np.cumsum([len(c) for c, _ in self._rows])])
        columns = [c for c, _ in self._rows]
        data = [d for _, d in self._rows]
        own = sp.csr_array(
            (
                np.concatenate(data) if data else np.zeros(0),
                np.concatenate(columns) if columns else np.zeros(0, dtype=int),
                pointer,
            ),
            shape=(len(self._rows), total),
        )
        user = sp.csr_array(
            (p.matrix.data, p.matrix.indices, p.matrix.indptr),
            shape=(len(p.row_lower), total),
        )
        matrix = sp.csr_array(sp.vstack([user, own], format="csr"))
        low = np.concatenate([p.row_lower, self._low])
        high = np.concatenate([p.row_upper, self._high])
        if math.isfinite(cutoff) and p.cost.any():
            # A row prunes as a cut-off does, and presolve understands it.
            objective = sp.csr_array(cost[None])
            matrix = sp.csr_array(sp.vstack([matrix, objective], format="csr"))
            low, high = np.append(low, -math.inf), np.append(high, cutoff)
        program = LinearProgram(
            cost,
            np.array(self.lower),
            np.array(self.upper),
            matrix,
            low,
            high,
            np.array(self.integer, dtype=bool),
        )
        end = time.perf_counter() + max(time_limit, 0.0)
        scaled = scaled_program(program)
        self._factors = scaled.factors
        highs = HighsModel(
            scaled.program,
            mip_rel_gap=relative,
            mip_abs_gap=max(gap, 1e-9),
            mip_feasibility_tolerance=1e-8,
            primal_feasibility_tolerance=1e-8,
            **NETWORK_DEFAULTS,
        )
        if start is not None:
            self._start(highs, np.asarray(start, dtype=float), time_limit)
        if nodes is not None:
            highs.set(mip_max_nodes=nodes)
        if stop is not None:
            highs.stop_when(lambda event: stop())
        answer = highs.run(end - time.perf_counter(), keep=stop is not None)
        return self._answer(answer, cutoff)

    def _start(self, highs: HighsModel, start: np.ndarray, time_limit: float) -> None:
        """Start from a point of the problem: what belongs to it inside is solved for."""
        p, by = self.problem, self._factors
        lower, upper = np.array(self.lower) * by, np.array(self.upper) * by
        known = np.setdiff1d(np.arange(self.m), p.n + np.arange(p.q))
        start = start * by[: self.m]
        highs.set_bounds(start[known], start[known], known)
        whole = highs.run(time_limit).point
        highs.set_bounds(lower, upper)
        highs.forget()
        if whole is not None:
            highs.start_at(whole)

    def _answer(self, answer: Answer, cutoff: float) -> BoxAnswer:
        if answer.infeasible:
            margin = 1e-7 * max(1.0, abs(cutoff)) if math.isfinite(cutoff) else 0.0
            return BoxAnswer(None, cutoff - margin, True)
        by = self._factors[: self.m]
        point = None if answer.point is None else answer.point[: self.m] / by
        # HiGHS's rows hold to a tolerance, so its bound does too.
        bound = min(answer.bound, math.inf if answer.optimal else cutoff)
        bound -= 1e-7 * max(1.0, abs(bound)) if math.isfinite(bound) else 0.0
        if answer.optimal:
            return BoxAnswer(point, bound, True)
        reason = {
            Status.INTERRUPTED: "interrupt",
            Status.UNBOUNDED: "unbounded",
            Status.INFEASIBLE_OR_UNBOUNDED: "unbounded",
        }.get(answer.status, "time")
        return BoxAnswer(point, bound, False, reason)
