r"""The lexicographic dual simplex method in integers, for Gomory's cuts.

The tableau has the objective and all structural variables as functions of the nonbasic ones,
:math:`(z, x_1, \dots, x_n) = (T_0 + T s) / D` with integers :math:`T` and the determinant
:math:`D` of the basis. Its columns stay lexicographically positive, so the point is the
lexicographically least of :math:`(z, x)`, and each pivot raises it. Cuts of the first
fractional entry then end after finitely many (Gomory). Entries stay subdeterminants: the
division in each pivot is without remainder (Edmonds, Bareiss).

Source: Zanette, Fischetti and Balas, Lexicography and degeneracy: can a pure cutting plane
algorithm work?, Math. Prog. 130, 2011, who add cuts of all fractional entries and take slack
ones out.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pyomo_relu.base.deadline import Deadline
from pyomo_relu.programs.sharp import Infeasible


class Tableau:
    """A pure integer program ``min cost @ x``, ``matrix @ x >= right``, ``x >= 0``.

    Parameters
    ----------
    cost : (n,) object array of int
        At least 0.
    matrix : (m, n) object array of int
    right : (m,) object array of int
    deadline : Deadline

    Attributes
    ----------
    table : (rows, 1 + n) object array of int
        The objective, the n structural variables, then the basic slacks; constants first.
    denominator : int
    nonbasic : list of int
        Structural variables count from 0, slacks from n.
    slacks : list of int
        The numbers of the slacks whose rows the table has.
    pivots : int
    """

    def __init__(
        self, cost: np.ndarray, matrix: np.ndarray, right: np.ndarray, deadline: Deadline
    ) -> None:
        self.n = n = len(cost)
        self.deadline = deadline
        identity = np.zeros((n, n), dtype=object)
        np.fill_diagonal(identity, 1)
        zeros = np.zeros((n, 1), dtype=object)
        top = np.concatenate([[0], cost]).astype(object)[None]
        self.table = np.vstack([top, np.hstack([zeros, identity])])
        self.denominator = 1
        self.nonbasic = list(range(n))
        self.slacks: list[int] = []
        self.count, self.pivots = n, 0
        for row, side in zip(matrix, right):
            self.add(row, side)

    def add(self, row: np.ndarray, side: int) -> None:
        """A row ``row @ x >= side``; its slack is basic."""
        new = row @ self.table[1 : self.n + 1]
        new[0] -= side * self.denominator
        self.table = np.vstack([self.table, new[None]])
        self.slacks.append(self.count)
        self.count += 1

    def optimize(self) -> None:
        """Pivot until no variable is negative.

        Raises
        ------
        Infeasible, TimeUp
        """
        while True:
            self.deadline.check()
            constants = self.table[1:, 0]
            i = int(np.argmin(constants)) + 1 if len(constants) else 0
            if not i or self.table[i, 0] >= 0:
                return
            self._pivot(i, self._entering(i))

    def _entering(self, i: int) -> int:
        """The column whose quotient by row i is lexicographically least."""
        row = self.table[i]
        open_ = [k for k in range(1, self.n + 1) if row[k] > 0]
        if not open_:
            raise Infeasible("no nonnegative point satisfies the rows and cuts.")
        for line in self.table[: self.n + 1]:
            if len(open_) == 1:
                break
            least = open_[0]
            for k in open_[1:]:
                if line[k] * row[least] < line[least] * row[k]:
                    least = k
            open_ = [k for k in open_ if line[k] * row[least] == line[least] * row[k]]
        return open_[0]

    def _pivot(self, i: int, k: int) -> None:
        """The variable of row i becomes nonbasic in place of that of column k."""
        row, column = self.table[i].copy(), self.table[:, k].copy()
        pivot, before = row[k], self.denominator
        table = (self.table * pivot - np.multiply.outer(column, row)) // before
        table[:, k] = column
        entering = self.nonbasic[k - 1]
        if i <= self.n:
            self.nonbasic[k - 1] = i - 1
        else:
            self.nonbasic[k - 1] = self.slacks.pop(i - self.n - 1)
            table = np.delete(table, i, axis=0)
        if entering >= self.n:
            new = -row
            new[k] = before
            table = np.vstack([table, new[None]])
            self.slacks.append(entering)
        self.table, self.denominator = table, pivot
        self.pivots += 1

    def fractional(self) -> list[int]:
        """Rows, the objective's and structural ones, whose value isn't an integer."""
        values = self.table[: self.n + 1, 0].tolist()
        return [r for r, v in enumerate(values) if v % self.denominator]

    def multipliers(self, r: int) -> dict[int, int]:
        """Numerators of the fractional parts of a row's coefficients of slacks, by row."""
        found = {
            v - self.n: int(a % self.denominator)
            for v, a in zip(self.nonbasic, self.table[r, 1:].tolist())
            if v >= self.n
        }
        return {k: u for k, u in sorted(found.items()) if u}

    def drop(self, first: int) -> None:
        """Take the rows of basic slacks from number ``first`` on out: they aren't tight."""
        keep = [k for k, s in enumerate(self.slacks) if s < self.n + first]
        kept = [*range(self.n + 1), *(self.n + 1 + k for k in keep)]
        self.table = self.table[kept]
        self.slacks = [self.slacks[k] for k in keep]

    def duals(self) -> dict[int, Any]:
        """Numerators of the reduced costs of nonbasic slacks, by row."""
        pairs = zip(self.nonbasic, self.table[0, 1:].tolist())
        return {v - self.n: d for v, d in pairs if v >= self.n and d}
