"""The linear relaxation of one box: planes of the network, the user's rows, the box.

One HiGHS object serves all boxes; each solve starts from the last basis. What it
returns is not HiGHS's objective but the bound that its duals prove, computed here, so
no tolerance of the solver enters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.programs import HighsModel, LinearProgram, Status
from pyomo_relu.solvers.global_search.problem import Problem

# A reduced cost this small on a column without a bound is a rounding error.
ZERO_COST = 1e-9


@dataclass
class Relaxed:
    """A solved relaxation.

    Attributes
    ----------
    bound : float
        Proved lower bound of the cost; infinite if the relaxation is proved empty.
    point : (m,) array or None
    weights : (S,) array
        How much each side's planes hold the bound up.
    unbounded : bool
    """

    bound: float
    point: np.ndarray | None
    weights: np.ndarray
    unbounded: bool = False


def proved_bound(cost, matrix, row_lower, row_upper, lower, upper, duals) -> float:
    """The bound on ``cost @ z`` that row multipliers prove, rounded down.

    Any multipliers do: a row enters with the side of its sign, what is left of the
    cost is minimized over the column bounds.
    """
    duals = np.array(duals)
    side = np.where(duals > 0, row_lower, row_upper)
    duals[~np.isfinite(side)] = 0.0
    side[duals == 0] = 0.0
    rest = cost - matrix.T @ duals
    at = np.where(rest > 0, lower, upper)
    at[rest == 0] = 0.0
    lost = ~np.isfinite(at)
    if lost.any():
        if (abs(rest[lost]) > ZERO_COST * max(1.0, float(abs(cost).max()))).any():
            return -np.inf
        at[lost], rest[lost] = 0.0, 0.0
    terms = [duals * side, rest * at]
    size = sum(float(abs(t).sum()) for t in terms)
    size += float(abs(duals) @ (abs(matrix) @ np.where(np.isfinite(at), abs(at), 0.0)))
    return sum(float(t.sum()) for t in terms) - 1e-13 * size


class BoxLP:
    """Relaxations of the boxes of one problem.

    Parameters
    ----------
    problem : Problem
    sides : list of (query, sign)
        Whose planes are given to :meth:`solve`.
    """

    def __init__(self, problem: Problem, sides: Sequence[tuple[int, float]]) -> None:
        self.problem, self.sides = problem, list(sides)
        self.highs = HighsModel(presolve="off", solver="simplex")
        self._basis: Any = None
        self._shape = (-1, -1)
        m, n, q = len(problem.columns), problem.n, problem.q
        # The y part of each side's plane rows: sign * query over the output columns.
        self.y_part = np.zeros((len(sides), m))
        for row, (k, sign) in zip(self.y_part, sides):
            row[n : n + q] = sign * problem.queries[k]
        self.static = problem.matrix
        self.count = 0

    def solve(self, lower, upper, slopes, consts) -> Relaxed:
        """Solve one box.

        Parameters
        ----------
        lower, upper : (m,) arrays
            Bounds of all columns.
        slopes, consts : (R, S, n), (R, S) arrays
            Planes: ``sign * query >= slopes @ drivers + consts``.
        """
        p, n = self.problem, self.problem.n
        r, s = consts.shape
        planes = np.tile(self.y_part, (r, 1))
        planes[:, :n] -= slopes.reshape(r * s, n)
        matrix = sp.csr_array(sp.vstack([self.static, sp.csr_array(planes)], format="csr"))
        low = np.concatenate([p.row_lower, consts.reshape(-1)])
        high = np.concatenate([p.row_upper, np.full(r * s, np.inf)])
        program = LinearProgram(p.cost, lower, upper, matrix, low, high)
        self.highs.load(program)
        if self._basis is not None and self._shape == matrix.shape:
            self.highs.start_basis(self._basis)
        answer = self.highs.run()
        self.count += 1
        weights = np.zeros(s)
        if answer.row_duals is not None:
            duals = answer.row_duals
            self._basis, self._shape = answer.basis, matrix.shape
            bound = proved_bound(p.cost, matrix, low, high, lower, upper, duals)
            weights = abs(duals[len(p.row_lower) :]).reshape(r, s).sum(axis=0)
            return Relaxed(bound, answer.point, weights)
        if answer.infeasible:
            ray = self.highs.dual_ray()
            if ray is not None:
                zero = np.zeros(len(p.columns))
                for sign in (1.0, -1.0):
                    proof = proved_bound(zero, matrix, low, high, lower, upper, sign * ray)
                    if proof > 0:
                        return Relaxed(np.inf, None, weights)
        return Relaxed(-np.inf, None, weights, answer.status is Status.UNBOUNDED)
