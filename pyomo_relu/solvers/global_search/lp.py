"""The linear relaxation of one box: planes of the network, the user's rows, the box.

One HiGHS object serves all boxes; each solve starts from the last basis. What it
returns is not HiGHS's objective but the bound that its duals prove, so no tolerance of
the solver enters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.presolve.problem import Problem
from pyomo_relu.programs import Certifier, HighsModel, LinearProgram, Rows, Status


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


class BoxLP:
    """Relaxations of the boxes of one problem.

    Parameters
    ----------
    problem : Problem
    sides : list of (query, sign)
        Whose planes are given to :meth:`solve`.
    """

    def __init__(self, problem: Problem, sides: Sequence[tuple[int, float]]) -> None:
        self.problem = problem
        self.highs = HighsModel(presolve="off", solver="simplex")
        self._basis: Any = None
        self._shape = (-1, -1)
        # The y part of each side's plane rows: sign * query over the output columns.
        self.y_part = np.zeros((len(sides), len(problem.columns)))
        for row, (k, sign) in zip(self.y_part, sides):
            places, weights = problem.query(k)
            row[problem.n + places] = sign * weights
        self.count = 0

    def solve(
        self, lower: np.ndarray, upper: np.ndarray, slopes: np.ndarray, consts: np.ndarray
    ) -> Relaxed:
        """Solve one box.

        Parameters
        ----------
        lower, upper : (m,) arrays
            Bounds of all columns.
        slopes, consts : (R, S, n), (R, S) arrays
            Planes: ``sign * query >= slopes @ drivers + consts``.
        """
        p, (r, s) = self.problem, consts.shape
        planes = np.tile(self.y_part, (r, 1))
        planes[:, : p.n] -= slopes.reshape(r * s, p.n)
        program = LinearProgram(
            p.cost, lower, upper, p.matrix, p.row_lower, p.row_upper
        ).with_rows(Rows(sp.csr_array(planes), consts.reshape(-1), np.full(r * s, np.inf)))
        self.highs.load(program)
        if self._basis is not None and self._shape == program.matrix.shape:
            self.highs.start_basis(self._basis)
        answer = self.highs.run()
        self.count += 1
        weights = np.zeros(s)
        if answer.row_duals is not None:
            self._basis, self._shape = answer.basis, program.matrix.shape
            bound = Certifier(program).lower_bound(p.cost, answer.row_duals)
            held = abs(answer.row_duals[len(p.row_lower) :])
            return Relaxed(bound, answer.point, held.reshape(r, s).sum(axis=0))
        ray = self.highs.dual_ray() if answer.infeasible else None
        if ray is not None:
            zero, certifier = np.zeros(len(p.columns)), Certifier(program)
            if any(certifier.lower_bound(zero, y) > 0 for y in (ray, -ray)):
                return Relaxed(np.inf, None, weights)
        return Relaxed(-np.inf, None, weights, answer.status is Status.UNBOUNDED)
