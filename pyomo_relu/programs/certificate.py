r"""Lower bounds of linear programs that are proved in float64, whatever a solver says.

For row multipliers ``y``, any at all,

.. math::
    c x = (c - A^T y) x + y A x
    \ge \sum_j \min_{x_j \in [l_j, u_j]} (c - A^T y)_j x_j
      + \sum_i \min_{r_i \in [a_i, b_i]} y_i r_i

holds for every ``x`` in the box that satisfies the rows. The sum is lowered by a bound on
its rounding and by ``|y|`` times what each row's own rounding may be.

Source: Neumaier and Shcherbina, "Safe bounds in linear and mixed-integer linear
programming", Math. Prog. 99, 2004, section 2.
"""

from __future__ import annotations

import numpy as np

from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.base.rounding import EPS
from pyomo_relu.programs.linear_program import LinearProgram

#: A reduced cost up to this share of the largest cost is a rounding error on a column
#: that has no bound on the side where it would count (chosen by hand).
ZERO_COST = 1e-9


class Certifier:
    """Proved lower bounds of linear functions over one program, from any row duals."""

    def __init__(self, program: LinearProgram) -> None:
        self.program = program
        self.transposed = sp.csr_array(program.matrix.T)
        self.absolute = abs(self.transposed)
        self.size = program.size
        self.bounded = bool(np.isfinite(self.size).all())
        longest = np.diff(self.transposed.indptr).max(initial=0)
        self.terms = float(longest + sum(program.matrix.shape) + 16)

    def lower_bound(self, cost: np.ndarray, duals: np.ndarray) -> float:
        """A number below ``cost @ x`` for every ``x`` of the program; integrality unused.

        It is -inf where the duals leave a cost on a column without a bound.
        """
        p, y = self.program, self._usable(duals)
        d = cost - self.transposed @ y
        end, size = np.where(d > 0, p.lower, p.upper), self.size
        if not self.bounded:
            lost = np.isinf(end)
            end = np.where(lost, 0.0, end)
            size = np.where(np.isinf(size), abs(end), size)
            limit = ZERO_COST * max(1.0, float(abs(cost).max()))
            if (abs(d[lost]) > limit).any():
                return -np.inf
        at_rows = y * np.where(y > 0, p.row_lower, np.where(y < 0, p.row_upper, 0.0))
        at_columns = d * end
        value = at_rows.sum() + at_columns.sum()
        reach = (abs(cost) + self.absolute @ abs(y)) @ size + abs(at_rows).sum()
        slack = 2.0 * EPS * self.terms * reach
        if p.row_slack is not None:
            slack = abs(y) @ p.row_slack + slack
        return float(value - 1.01 * slack)

    def _usable(self, duals: np.ndarray) -> np.ndarray:
        """Multipliers (n_rows,), 0 where a row has no bound for their sign."""
        p, y = self.program, np.asarray(duals, dtype=float)
        infinite = ((y > 0) & np.isinf(p.row_lower)) | ((y < 0) & np.isinf(p.row_upper))
        return np.where(infinite | ~np.isfinite(y), 0.0, y)

    def surrogate_row(
        self, duals: np.ndarray, columns: np.ndarray
    ) -> tuple[np.ndarray, float] | None:
        """A row that follows from all rows and the bounds of all other columns.

        Multiplied with duals of ``min c @ x`` and added to ``c @ x``, it moves what the rows
        say about this minimum into the columns' costs (Glover, Operations Research 13, 1965).

        Parameters
        ----------
        duals : (n_rows,) array
            Any multipliers.
        columns : (k,) int array

        Returns
        -------
        row : (k,) array
        constant : float
            ``row @ x[columns] + constant <= 0`` for every ``x`` of the program; None instead
            of both where a column without bounds is in the way.
        """
        p, y = self.program, self._usable(duals)
        total = -(self.transposed @ y)
        row = total[columns]
        total[columns] = 0.0
        at_rows = y * np.where(y > 0, p.row_lower, np.where(y < 0, p.row_upper, 0.0))
        end = np.where(total > 0, p.lower, p.upper)
        weight = self.absolute @ abs(y)
        used = (total != 0) | (weight > 0)
        if np.isinf(end[total != 0]).any() or np.isinf(self.size[used]).any():
            return None
        others = np.where(total != 0, total * np.where(total != 0, end, 0.0), 0.0)
        reach = float(weight[used] @ self.size[used]) + float(abs(at_rows).sum())
        slack = 2.0 * EPS * self.terms * reach
        if p.row_slack is not None:
            slack += float(abs(y) @ p.row_slack)
        return row, float(at_rows.sum() + others.sum() - 1.01 * slack)
