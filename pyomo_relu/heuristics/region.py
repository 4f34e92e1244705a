"""Linear programs of linear regions, and walks from one region to the next.

With the binaries of all networks fixed to one activation pattern, the user's whole
model is a linear program. Its optimum mostly lies on the border of the region; the
next region is just beyond.

Sources: Tong, Cai, Serra, arXiv 2401.03451 (relax-and-walk); Perakis, Tsiourvas,
arXiv 2205.14189 (the neighbourhood of units on the border).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np

from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.heuristics.problem import NetworkProblem
from pyomo_relu.programs import NETWORK_DEFAULTS, HighsModel, LinearProgram
from pyomo_relu.programs.standard_form import StandardForm

#: How far a walk steps beyond a region's optimum, as a share of the last move.
STEP_BEYOND = 0.01


@dataclass
class RegionPoint:
    """A solved region: all columns, the cost to be maximized, the violation left."""

    point: np.ndarray
    score: float
    violation: float
    pattern: np.ndarray

    def better_than(self, other: RegionPoint | None) -> bool:
        """Less violation first, then more score; by more than the noise of an LP."""
        if other is None:
            return True
        if max(self.violation, other.violation) > 1e-7:
            return self.violation < 0.99 * other.violation
        return self.score > other.score + 1e-7 * max(1.0, abs(other.score))


class RegionSolver:
    """The linear programs of all regions in one HiGHS object, started warm.

    Rows of the user's can be stretched, and bounds of outputs count as such: in a
    region that holds no feasible point the least violation shows the way out.
    """

    def __init__(self, problem: NetworkProblem) -> None:
        self.problem = problem
        self.n = len(problem.form.columns)
        self.form, self.stretch = _elastic(problem)
        self.sign = 1.0 if problem.form.maximize else -1.0
        self.highs = HighsModel(self.form)
        self._lower, self._upper = self.form.lower.copy(), self.form.upper.copy()
        self._elastic_mode = False
        #: Duals of the form's rows, from the latest solved LP.
        self.duals: np.ndarray | None = None

    def _set_mode(self, elastic: bool) -> None:
        """Cost and stretching columns of the two phases."""
        if elastic == self._elastic_mode:
            return
        self._elastic_mode = elastic
        cost = np.zeros(len(self.form.cost))
        if elastic:
            cost[self.n :] = -self.sign * self.stretch
        else:
            cost[: self.n] = self.problem.form.cost
        self.highs.set_costs(cost)
        slack = np.arange(self.n, len(cost))
        high = np.full(len(slack), np.inf if elastic else 0.0)
        self.highs.set_bounds(np.zeros(len(slack)), high, slack)

    def fix(self, columns: np.ndarray, values: np.ndarray) -> None:
        """Fix some columns, and give all others their own bounds again."""
        low, high = self.form.lower[: self.n].copy(), self.form.upper[: self.n].copy()
        low[columns] = high[columns] = values
        old_low, old_high = self._lower[: self.n], self._upper[: self.n]
        changed = np.flatnonzero((low != old_low) | (high != old_high))
        self.highs.set_bounds(low[changed], high[changed], changed)
        self._lower[: self.n], self._upper[: self.n] = low, high

    def run(self, deadline: float, elastic: bool = False) -> np.ndarray | None:
        """Solve as set; the columns' values, or None without an optimum in time."""
        left = deadline - time.perf_counter()
        if left <= 0:
            return None
        self._set_mode(elastic)
        answer = self.highs.run(left)
        if not answer.optimal:
            return None
        self.duals = answer.row_duals
        return answer.point

    def relaxation(self, deadline: float) -> np.ndarray | None:
        """The LP relaxation's point."""
        self.fix(np.zeros(0, dtype=int), np.zeros(0))
        x = self.run(deadline)
        return None if x is None else x[: self.n]

    def solve(self, pattern: np.ndarray, deadline: float) -> RegionPoint | None:
        """The best point of a region; the least violation where none is feasible."""
        self.fix(self.problem.pattern_columns, pattern)
        x = self.run(deadline)
        if x is not None:
            score = self.sign * float(self.problem.form.cost @ x[: self.n])
            return RegionPoint(x[: self.n], score, 0.0, pattern)
        if not len(self.stretch):
            return None
        x = self.run(deadline, elastic=True)
        if x is None:
            return None
        violation = float(self.stretch @ x[self.n :])
        score = self.sign * float(self.problem.form.cost @ x[: self.n])
        return RegionPoint(x[: self.n], score, violation, pattern)

    def walk(self, point: np.ndarray, deadline: float, seen: set[bytes]):
        """Yield better and better region optima, each just beyond the last.

        Parameters
        ----------
        point : (n_columns,) array
            Its drivers say where to begin.
        seen : set
            Patterns that were solved; added to.
        """
        problem, best, here = self.problem, None, point
        low, high = problem.driver_box
        while time.perf_counter() < deadline:
            pattern = problem.pattern(here)
            key = pattern.tobytes()
            if key in seen:
                return
            seen.add(key)
            found = self.solve(pattern, deadline)
            if found is None or not found.better_than(best):
                return
            best = found
            yield found
            end = found.point[problem.drivers]
            move = end - here[problem.drivers]
            beyond = end + STEP_BEYOND * move
            beyond = np.where((beyond < low) | (beyond > high), end, beyond)
            here = found.point.copy()
            here[problem.drivers] = beyond

    def local_cost(self) -> np.ndarray:
        """The cost of inputs and outputs that the user's rows imply, to be maximized.

        The objective may reach the network through rows, as in ``t <= output``: the
        duals of the latest LP price those. With no LP yet, the objective's own cost.
        """
        form = self.problem.form
        cost = form.cost.copy()
        if self.duals is not None and not self._elastic_mode:
            duals = self.duals[: len(form.rows)].copy()
            duals[self.problem.layer_rows] = 0.0
            cost -= form.matrix.T @ duals
        found = np.zeros(self.n)
        found[self.problem.io] = self.sign * cost[self.problem.io]
        return found


def _elastic(problem: NetworkProblem) -> tuple[LinearProgram, np.ndarray]:
    """The form with stretching columns for the user's rows, and their weights.

    Bounds of outputs become rows, so that they can be stretched, too.
    """
    form, n = problem.form, len(problem.form.columns)
    outputs = np.setdiff1d(problem.io, problem.drivers)
    lower, upper = form.lower.copy(), form.upper.copy()
    matrix, row_lower, row_upper = form.matrix, form.row_lower, form.row_upper
    if len(outputs):
        pick = sp.csr_array(
            (np.ones(len(outputs)), (np.arange(len(outputs)), outputs)),
            shape=(len(outputs), n),
        )
        matrix = sp.vstack([matrix, pick], format="csr")
        row_lower = np.concatenate([row_lower, lower[outputs]])
        row_upper = np.concatenate([row_upper, upper[outputs]])
        lower[outputs], upper[outputs] = -np.inf, np.inf
    soft = np.ones(len(row_lower), dtype=bool)
    soft[: len(form.rows)] = ~problem.layer_rows
    up = np.flatnonzero(soft & np.isfinite(row_lower))
    down = np.flatnonzero(soft & np.isfinite(row_upper))
    rows = np.concatenate([up, down])
    signs = np.concatenate([np.ones(len(up)), -np.ones(len(down))])
    k = len(rows)
    extra = sp.csr_array((signs, (rows, np.arange(k))), shape=(len(row_lower), k))
    bound = np.concatenate([row_lower[up], row_upper[down]])
    wide = LinearProgram(
        np.concatenate([form.cost, np.zeros(k)]),
        np.concatenate([lower, np.zeros(k)]),
        np.concatenate([upper, np.zeros(k)]),
        sp.csr_array(sp.hstack([matrix, extra], format="csr")),
        row_lower,
        row_upper,
        offset=form.offset,
        maximize=form.maximize,
    )
    return wide, 1.0 / np.maximum(1.0, np.abs(bound))


def solve_fixed(
    form: StandardForm,
    columns: np.ndarray,
    values: np.ndarray,
    deadline: float,
    start: np.ndarray | None = None,
    max_nodes: int = 200,
) -> np.ndarray | None:
    """Solve the MIP that is left when some columns are fixed; None without a point."""
    left = deadline - time.perf_counter()
    if left <= 0:
        return None
    low, high = form.lower.copy(), form.upper.copy()
    low[columns] = high[columns] = values
    highs = HighsModel(replace(form, lower=low, upper=high), **NETWORK_DEFAULTS)
    highs.set(mip_max_nodes=max_nodes)
    if start is not None:
        highs.start_at(start)
    return highs.run(left).point
