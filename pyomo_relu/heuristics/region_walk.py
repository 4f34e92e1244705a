"""Linear programs of linear regions, and walks from one region to the next.

With the binaries of all networks fixed to one activation pattern, the user's whole
model is a linear program. Its optimum mostly lies on the border of the region; the
next region is just beyond.

Sources: Tong, Cai, Serra, arXiv 2401.03451 (relax-and-walk); Perakis, Tsiourvas,
arXiv 2205.14189 (the neighbourhood of units on the border).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from pyomo_relu.base.deadline import Deadline
from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.heuristics.network_columns import NetworkProblem, selection
from pyomo_relu.heuristics.start_settings import START
from pyomo_relu.programs import NETWORK_DEFAULTS, HighsModel, LinearProgram
from pyomo_relu.programs.standard_form import StandardForm


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
        if max(self.violation, other.violation) > START.noise:
            return self.violation < START.less_violated * other.violation
        return self.score > other.score + START.noise * max(1.0, abs(other.score))


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
        self._stretching = False
        #: Duals of the form's rows, from the latest solved LP.
        self.duals: np.ndarray | None = None

    def _allow_stretching(self, stretching: bool) -> None:
        """Cost and stretching columns of the two phases."""
        if stretching == self._stretching:
            return
        self._stretching = stretching
        cost = np.zeros(len(self.form.cost))
        if stretching:
            cost[self.n :] = -self.sign * self.stretch
        else:
            cost[: self.n] = self.problem.form.cost
        self.highs.set_costs(cost)
        slack = np.arange(self.n, len(cost))
        high = np.full(len(slack), np.inf if stretching else 0.0)
        self.highs.set_bounds(np.zeros(len(slack)), high, slack)

    def fix(self, columns: np.ndarray, values: np.ndarray) -> None:
        """Fix some columns, and give all others their own bounds again."""
        low, high = self.form.lower[: self.n].copy(), self.form.upper[: self.n].copy()
        low[columns] = high[columns] = values
        old_low, old_high = self._lower[: self.n], self._upper[: self.n]
        changed = np.flatnonzero((low != old_low) | (high != old_high))
        self.highs.set_bounds(low[changed], high[changed], changed)
        self._lower[: self.n], self._upper[: self.n] = low, high

    def run(self, deadline: Deadline, stretching: bool = False) -> np.ndarray | None:
        """Solve as set; all columns' values, or None without an optimum in time."""
        if deadline.expired():
            return None
        self._allow_stretching(stretching)
        answer = self.highs.run(deadline.limit)
        if not answer.optimal:
            return None
        self.duals = answer.row_duals
        return answer.point

    def relaxation(self, deadline: Deadline) -> np.ndarray | None:
        """The LP relaxation's point."""
        self.fix(np.zeros(0, dtype=int), np.zeros(0))
        x = self.run(deadline)
        return None if x is None else x[: self.n]

    def solve(self, pattern: np.ndarray, deadline: Deadline) -> RegionPoint | None:
        """The best point of a region; the least violation where none is feasible."""
        self.fix(self.problem.pattern_columns, pattern)
        x = self.run(deadline)
        if x is None and len(self.stretch):
            x = self.run(deadline, stretching=True)
        if x is None:
            return None
        point, violation = x[: self.n], 0.0
        if self._stretching:
            violation = float(self.stretch @ x[self.n :])
        score = self.sign * float(self.problem.form.cost @ point)
        return RegionPoint(point, score, violation, pattern)

    def walk(
        self, point: np.ndarray, deadline: Deadline, seen: set[bytes]
    ) -> Iterator[RegionPoint]:
        """Yield better and better region optima, each just beyond the last.

        The drivers of a point (n_columns,) say where to begin; patterns in ``seen`` were
        solved before, and new ones are added to it.
        """
        problem, here = self.problem, point
        best: RegionPoint | None = None
        low, high = problem.driver_box
        while not deadline.expired():
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
            beyond = end + START.step_beyond * (end - here[problem.drivers])
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
        if self.duals is not None and not self._stretching:
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
    form, outputs = problem.form, problem.outputs
    lower, upper = form.lower.copy(), form.upper.copy()
    matrix = sp.vstack([form.matrix, selection(outputs, len(lower))], format="csr")
    row_lower = np.concatenate([form.row_lower, lower[outputs]])
    row_upper = np.concatenate([form.row_upper, upper[outputs]])
    lower[outputs], upper[outputs] = -np.inf, np.inf
    soft = np.ones(len(row_lower), dtype=bool)
    soft[: len(form.rows)] = ~problem.layer_rows
    up = np.flatnonzero(soft & np.isfinite(row_lower))
    down = np.flatnonzero(soft & np.isfinite(row_upper))
    signs = np.concatenate([np.ones(len(up)), -np.ones(len(down))])
    k = len(signs)
    at = (np.concatenate([up, down]), np.arange(k))
    extra = sp.csr_array((signs, at), shape=(len(row_lower), k))
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
    deadline: Deadline,
    start: np.ndarray | None = None,
) -> np.ndarray | None:
    """Solve the MIP that is left when some columns are fixed; None without a point."""
    if deadline.expired():
        return None
    low, high = form.lower.copy(), form.upper.copy()
    low[columns] = high[columns] = values
    highs = HighsModel(replace(form, lower=low, upper=high), **NETWORK_DEFAULTS)
    highs.set(mip_max_nodes=START.most_nodes)
    if start is not None:
        highs.start_at(start)
    return highs.run(deadline.limit).point
