r"""`ChvatalFunction`: an optimal subadditive dual of a pure integer program.

For :math:`\min\{c^\top x : Ax \ge b,\ x \ge 0 \text{ integer}\}` with integer data,
Gomory's cuts in exact rational arithmetic: a fractional row of the optimal dictionary
gives multipliers :math:`u_k \ge 0`, the fractional parts of its slacks' coefficients, and
the cut :math:`\sum_j \lceil uA_j \rceil x_j \ge \lceil ub \rceil`. With the final duals
:math:`\pi`,

.. math::
    F(d) = \sum_k \pi_k g_k(d), \qquad g_k(d) = d_k \text{ for rows},\quad
    g_k(d) = \Bigl\lceil \sum_l u_{kl}\, g_l(d) \Bigr\rceil \text{ for cuts},

which is nondecreasing and subadditive, with :math:`F(0) = 0` and
:math:`F(A_j) \le c_j`. So :math:`F(d)` bounds the value for every right-hand side
:math:`d`, and :math:`F(b)` is the value.

Sources: Gomory (1963), Chvatal (1973); Guzelsoy and Ralphs (2007) for the dual.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import product
from typing import Any

from pyomo_relu.programs.sharp import Infeasible


class CutLimit(RuntimeError):
    """Gomory's cuts did not end within the limit."""


class ChvatalFunction:
    """Solve a pure integer program by Gomory's cuts and keep the dual function.

    Parameters
    ----------
    cost : (n,) sequence of rationals
        At least 0, so that the dual simplex method has its start.
    matrix : (m, n) sequence of sequences of integers
    right : (m,) sequence of integers
        Rows are ``matrix @ x >= right``. Upper bounds are rows ``-x_j >= -u_j``.
    max_cuts : int

    Attributes
    ----------
    value : Fraction
        The optimal value.
    x : list of Fraction
        An optimal point.
    duals : list of Fraction
        The duals of rows, then those of cuts.
    cuts : list of dict
        For each cut the multipliers of earlier rows and cuts, by their number.

    Raises
    ------
    ValueError
        For negative costs, or a matrix or right-hand side that isn't integer.
    Infeasible
        If no point satisfies the rows.
    CutLimit

    Examples
    --------
    >>> f = ChvatalFunction([1, 1], [[2, 2]], [3])
    >>> f.value, len(f.cuts), f([5])
    (Fraction(2, 1), 1, Fraction(3, 1))
    """

    def __init__(
        self,
        cost: Sequence[Any],
        matrix: Sequence[Sequence[Any]],
        right: Sequence[Any],
        *,
        max_cuts: int = 200,
    ) -> None:
        self.cost = [_rational(c) for c in cost]
        self.matrix = [[_rational(a) for a in row] for row in matrix]
        self.right = [_rational(b) for b in right]
        self._check()
        self.n_rows = len(self.matrix)
        self.cuts: list[dict[int, Fraction]] = []
        dictionary = _Dictionary(self.cost, self.matrix, self.right)
        # The columns and the right-hand side, as far as rows and cuts have them.
        columns = [list(column) for column in (*zip(*self.matrix), self.right)]
        dictionary.optimize()
        while (split := dictionary.fractional()) is not None:
            if len(self.cuts) == max_cuts:
                raise CutLimit(
                    f"{max_cuts} cuts don't close the gap; raise max_cuts, or use "
                    "branch_and_bound, whose DualFunction always ends."
                )
            cut = dictionary.multipliers(split)
            self.cuts.append(cut)
            for column in columns:
                column.append(_rounded(cut, column))
            *row, side = (column[-1] for column in columns)
            dictionary.add(row, side)
            dictionary.optimize()
        self.value = dictionary.value
        self.x = dictionary.point()
        self.duals = [dictionary.dual(k) for k in range(self.n_rows + len(self.cuts))]

    def _check(self) -> None:
        n = len(self.cost)
        if any(len(row) != n for row in self.matrix) or len(self.matrix) != len(self.right):
            raise ValueError("cost, matrix and right don't fit.")
        if any(c < 0 for c in self.cost):
            raise ValueError("costs must be at least 0; substitute x = u - x' if x <= u.")
        if any(a.denominator != 1 for row in (*self.matrix, self.right) for a in row):
            raise ValueError(
                "the matrix and the right-hand side must be integers; multiply rows by "
                "their common denominator."
            )

    def __call__(self, right: Sequence[Any]) -> Fraction:
        """Evaluate at a right-hand side, exactly; floats are taken as they are."""
        values = [Fraction(d) for d in right]
        if len(values) != self.n_rows:
            raise ValueError(f"a right-hand side has {self.n_rows} entries.")
        for cut in self.cuts:
            values.append(_rounded(cut, values))
        return sum((p * v for p, v in zip(self.duals, values)), _ZERO)

    def dual_slacks(self) -> list[Fraction]:
        """``cost_j - F(A_j)`` of every column, at least 0 for a feasible dual."""
        columns = zip(*self.matrix) if self.matrix else [()] * len(self.cost)
        return [c - self(column) for c, column in zip(self.cost, columns)]

    def is_dual_feasible(self) -> bool:
        """Whether ``F(0) = 0``, ``F(A_j) <= c_j``, and all multipliers are at least 0.

        With nonnegative multipliers F is nondecreasing and subadditive.
        """
        signs = all(p >= 0 for p in self.duals) and all(
            u >= 0 for cut in self.cuts for u in cut.values()
        )
        return (
            signs
            and self([0] * self.n_rows) == 0
            and all(s >= 0 for s in self.dual_slacks())
        )

    def subadditivity_gap(self, points: Iterable[Sequence[Any]]) -> Fraction:
        """The largest ``F(d + e) - F(d) - F(e)`` over pairs of points; at most 0."""
        listed = [[Fraction(a) for a in p] for p in points]
        values = [self(p) for p in listed]
        pairs = product(range(len(listed)), repeat=2)
        return max(
            self([a + b for a, b in zip(listed[i], listed[j])]) - values[i] - values[j]
            for i, j in pairs
        )


_ZERO = Fraction(0)


def _rational(number: Any) -> Fraction:
    return Fraction(number.item() if hasattr(number, "item") else number)


def _rounded(cut: dict[int, Fraction], values: Sequence[Fraction]) -> Fraction:
    """The sum of values, each times its multiplier, rounded up."""
    return Fraction(math.ceil(sum((u * values[k] for k, u in cut.items()), _ZERO)))


class _Dictionary:
    """``basic = constant + row @ nonbasic`` with fractions; Bland's rule throughout.

    Variables are numbered: the n structural ones, then the slack of each row.
    """

    def __init__(
        self, cost: list[Fraction], matrix: list[list[Fraction]], right: list[Fraction]
    ) -> None:
        self.n = len(cost)
        self.nonbasic = list(range(self.n))
        self.count = self.n + len(matrix)
        self.basic = list(range(self.n, self.count))
        self.constant = [-b for b in right]
        self.rows = [list(row) for row in matrix]
        self.value, self.reduced = _ZERO, list(cost)

    def add(self, row: list[Fraction], right: Fraction) -> None:
        """A new row over the structural variables; its slack enters the basis."""
        constant, found = -right, [_ZERO] * len(self.nonbasic)
        where = {v: k for k, v in enumerate(self.nonbasic)}
        place = {v: k for k, v in enumerate(self.basic)}
        for j, a in enumerate(row):
            if not a:
                continue
            if j in where:
                found[where[j]] += a
            else:
                i = place[j]
                constant += a * self.constant[i]
                found = [f + a * r for f, r in zip(found, self.rows[i])]
        self.basic.append(self.count)
        self.constant.append(constant)
        self.rows.append(found)
        self.count += 1

    def optimize(self) -> None:
        """The dual simplex method."""
        while True:
            short = [(v, i) for i, v in enumerate(self.basic) if self.constant[i] < 0]
            if not short:
                return
            _, i = min(short)
            entering = [
                (self.reduced[k] / a, self.nonbasic[k], k)
                for k, a in enumerate(self.rows[i])
                if a > 0
            ]
            if not entering:
                raise Infeasible("no nonnegative point satisfies the rows and cuts.")
            self._pivot(i, min(entering)[2])

    def _pivot(self, i: int, k: int) -> None:
        row, a = self.rows[i], self.rows[i][k]
        constant = -self.constant[i] / a
        new = [-r / a for r in row]
        new[k] = 1 / a
        for other in range(len(self.rows)):
            factor = self.rows[other][k]
            if other == i or not factor:
                continue
            self.constant[other] += factor * constant
            self.rows[other] = _substitute(self.rows[other], new, factor, k)
        factor = self.reduced[k]
        self.value += factor * constant
        self.reduced = _substitute(self.reduced, new, factor, k)
        self.rows[i], self.constant[i] = new, constant
        self.basic[i], self.nonbasic[k] = self.nonbasic[k], self.basic[i]

    def fractional(self) -> int | None:
        """The row of the first structural variable that isn't an integer."""
        found = [
            (v, i)
            for i, v in enumerate(self.basic)
            if v < self.n and self.constant[i].denominator != 1
        ]
        return min(found)[1] if found else None

    def multipliers(self, i: int) -> dict[int, Fraction]:
        """Fractional parts of the coefficients of the nonbasic slacks."""
        parts = {
            v - self.n: a - math.floor(a)
            for v, a in zip(self.nonbasic, self.rows[i])
            if v >= self.n
        }
        return {k: u for k, u in sorted(parts.items()) if u}

    def dual(self, k: int) -> Fraction:
        """The dual of a row: the reduced cost of its slack."""
        variable = self.n + k
        if variable not in self.nonbasic:
            return _ZERO
        return self.reduced[self.nonbasic.index(variable)]

    def point(self) -> list[Fraction]:
        """The structural variables."""
        values = dict(zip(self.basic, self.constant))
        return [values.get(j, _ZERO) for j in range(self.n)]


def _substitute(
    row: list[Fraction], new: list[Fraction], factor: Fraction, k: int
) -> list[Fraction]:
    """Replace nonbasic variable k in a row by its expression."""
    found = [r + factor * x for r, x in zip(row, new)]
    found[k] = factor * new[k]
    return found
