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

import numpy as np

from pyomo_relu.base.deadline import NEVER, Deadline
from pyomo_relu.differentiable.lexicographic import Tableau
from pyomo_relu.programs.program import Program

#: Cuts of one round, the objective's and those of the first variables before others. More make
#: the tableau larger, fewer the rounds more; chosen by hand.
CUTS_OF_A_ROUND = 10


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
    deadline : Deadline

    Attributes
    ----------
    value : Fraction
        The optimal value.
    x : list of Fraction
        An optimal point.
    duals : list of Fraction
        The duals of rows, then those of cuts.
    cuts : list of dict
        For each cut the multipliers of earlier rows and cuts, by their number. Cuts that
        the function doesn't use are left out.
    generated, pivots : int
        All cuts that were made, and pivots of the simplex method.

    Raises
    ------
    ValueError
        For negative costs, or a matrix or right-hand side that isn't integer.
    Infeasible
        If no point satisfies the rows.
    CutLimit
    TimeUp
        When the deadline has passed.

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
        max_cuts: int = 2000,
        deadline: Deadline = NEVER,
    ) -> None:
        self.cost = [_rational(c) for c in cost]
        self.matrix = [[_rational(a) for a in row] for row in matrix]
        self.right = [_rational(b) for b in right]
        self._check()
        self.n_rows = len(self.matrix)
        self.cuts: list[dict[int, Fraction]] = []
        scale = math.lcm(1, *(c.denominator for c in self.cost))
        whole = np.array([int(c * scale) for c in self.cost], dtype=object)
        matrix_ = _integers(self.matrix, len(self.cost))
        right_ = np.array([int(b) for b in self.right], dtype=object)
        table = Tableau(whole, matrix_, right_, deadline)
        self._cut(table, np.column_stack([matrix_, right_]), max_cuts)
        d = table.denominator
        self.value = Fraction(table.table[0, 0], d * scale)
        self.x = [Fraction(v, d) for v in table.table[1 : table.n + 1, 0].tolist()]
        found = {k: Fraction(v, d * scale) for k, v in table.duals().items()}
        self.pivots = table.pivots
        self._keep_used(found)

    @classmethod
    def from_program(cls, program: Program, **options: Any) -> ChvatalFunction:
        """Of a pure integer program with integer data; ``options`` of the class.

        The function is that of :meth:`rows_of`; ``constant`` is what that takes off.

        Raises
        ------
        ValueError
            For continuous variables, data that aren't integers, and missing bounds.
        Infeasible, CutLimit, TimeUp
        """
        cost, rows, right, constant = cls.rows_of(program)
        found = cls(cost, rows, right, **options)
        found.constant = constant
        return found

    @staticmethod
    def rows_of(program: Program) -> tuple[list, list, list, Fraction]:
        """A pure integer program as ``min cost @ x``, ``matrix @ x >= right``, ``x >= 0``.

        Variables are counted from their lower bounds, those with negative costs from their
        upper ones downwards. Rows are those with a lower side, then those with an upper one,
        negated, then the widths of the variables that have one, negated.

        Returns
        -------
        cost, matrix, right : lists
        constant : Fraction
            The objective at the bounds that variables are counted from.
        """
        lower, upper, a = program.lower, program.upper, program.matrix.toarray()
        down = program.cost < 0
        start = np.where(down, upper, lower)
        if not program.integer.all():
            j = int(np.flatnonzero(~program.integer)[0])
            raise ValueError(f"variable {j} is continuous; SubadditiveDual takes those.")
        if not np.isfinite(start).all():
            j = int(np.flatnonzero(~np.isfinite(start))[0])
            raise ValueError(
                f"variable {j} has no finite bound on the side it starts from."
            )
        signs = np.where(down, -1.0, 1.0)
        moved, at = a * signs, a @ start
        low, high = np.isfinite(program.row_lower), np.isfinite(program.row_upper)
        wide = np.isfinite(lower) & np.isfinite(upper)
        rows = np.vstack([moved[low], -moved[high], -np.identity(len(start))[wide]])
        right = [(program.row_lower - at)[low], (at - program.row_upper)[high]]
        right.append((lower - upper)[wide])
        products = (Fraction(c) * Fraction(s) for c, s in zip(program.cost, start))
        constant = sum(products, Fraction(program.offset))
        costs = (program.cost * signs).tolist()
        return costs, rows.tolist(), np.concatenate(right).tolist(), constant

    #: What :meth:`from_program` takes off the objective.
    constant = Fraction(0)

    def _cut(self, table: Tableau, known: np.ndarray, max_cuts: int) -> None:
        """Add cuts of all fractional entries, round by round.

        ``known`` has the columns and the right-hand side of rows and cuts, (rows, n + 1).
        """
        table.optimize()
        while rows := table.fractional():
            cuts = dict.fromkeys(tuple(table.multipliers(r).items()) for r in rows)
            table.drop(self.n_rows)
            for cut in list(cuts)[:CUTS_OF_A_ROUND]:
                if len(self.cuts) == max_cuts:
                    raise CutLimit(
                        f"{max_cuts} cuts don't close the gap; raise max_cuts, or use "
                        "SubadditiveDual, whose tree always ends."
                    )
                at, numbers = [k for k, _ in cut], np.array([u for _, u in cut], object)
                d = table.denominator
                new = -(-(numbers @ known[at]) // d)
                self.cuts.append({k: Fraction(u, d) for k, u in cut})
                known = np.vstack([known, new[None]])
                table.add(new[:-1], new[-1])
            table.optimize()

    def _keep_used(self, duals: dict[int, Fraction]) -> None:
        """Leave the cuts out that neither a dual nor a cut that stays refers to."""
        m, used = self.n_rows, {k for k in duals if k >= self.n_rows}
        for k in range(m + len(self.cuts) - 1, m - 1, -1):
            if k in used:
                used |= {j for j in self.cuts[k - m] if j >= m}
        number = {k: k for k in range(m)}
        number |= {k: m + place for place, k in enumerate(sorted(used))}
        self.generated = len(self.cuts)
        self.cuts = [
            {number[j]: u for j, u in self.cuts[k - m].items()} for k in sorted(used)
        ]
        self.duals = [_ZERO] * (m + len(self.cuts))
        for k, dual in duals.items():
            self.duals[number[k]] = dual

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


def _integers(matrix: list[list[Fraction]], n: int) -> np.ndarray:
    """A matrix (m, n) of Python's integers."""
    found = np.zeros((len(matrix), n), dtype=object)
    for i, row in enumerate(matrix):
        found[i] = [int(a) for a in row]
    return found


def _rational(number: Any) -> Fraction:
    return Fraction(number.item() if hasattr(number, "item") else number)


def _rounded(cut: dict[int, Fraction], values: Sequence[Fraction]) -> Fraction:
    """The sum of values, each times its multiplier, rounded up."""
    return Fraction(math.ceil(sum((u * values[k] for k, u in cut.items()), _ZERO)))
