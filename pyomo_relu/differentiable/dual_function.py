r"""`DualFunction`: a lower bound on a program's value for all data, from one tree.

.. math::
    G(A, b, c) = \min_t \Bigl[ y^{t\top} b +
    \sum_j \min\bigl((c_j - y^{t\top} A_j)\, l^t_j,\ (c_j - y^{t\top} A_j)\, u^t_j\bigr)
    \Bigr]

over the leaves :math:`t` of a branch-and-bound tree with boxes :math:`[l^t, u^t]` and
any duals :math:`y^t`. The boxes cover all integer points, and each term is a Lagrangian
bound on one box, so :math:`G \le z` for every matrix, right-hand side and cost. With the
duals of the leaves' LPs it is tight where the tree was grown. It is concave in all data.

Source: the branch-and-bound dual function of Wolsey, and of Guzelsoy and Ralphs (2007),
extended from right-hand sides to matrix and cost, which finite boxes make possible.
"""

from __future__ import annotations

import numpy as np

from pyomo_relu.base.rounding import EPS
from pyomo_relu.programs.branch_and_bound import Tree, branch_and_bound
from pyomo_relu.programs.program import Program

#: A reduced cost below this, relative to its terms, counts as 0. It was chosen by hand.
ZERO = 1e-9


class DualFunction:
    """The dual function of a branch-and-bound tree.

    Parameters
    ----------
    tree : Tree or Program
        A program is solved by :func:`branch_and_bound` first.

    Attributes
    ----------
    base : Program
    duals : (leaves, m) array
    lower, upper : (leaves, n) arrays
        The boxes.

    Raises
    ------
    ValueError
        If a variable has an infinite bound: a change of its cost could then make the
        value fall without limit.
    """

    def __init__(self, tree: Tree | Program) -> None:
        if isinstance(tree, Program):
            _check_finite(tree)
            tree = branch_and_bound(tree)
        self.base = base = tree.program
        _check_finite(base)
        self.value = tree.value
        self.lower = np.array([leaf.lower for leaf in tree.leaves])
        self.upper = np.array([leaf.upper for leaf in tree.leaves])
        self.points = [leaf.x for leaf in tree.leaves]
        duals = np.array([leaf.y for leaf in tree.leaves]).reshape(len(tree.leaves), -1)
        # Any dual is valid; one at an infinite side would make the bound useless.
        duals = np.where(np.isinf(base.row_lower), np.minimum(duals, 0.0), duals)
        self.duals = np.where(np.isinf(base.row_upper), np.maximum(duals, 0.0), duals)

    def __call__(self, program: Program) -> float:
        """A lower bound on the optimal value of a program with other data.

        Rounded down by a bound on its own rounding error.

        Raises
        ------
        ValueError
            If the program has another shape, other integer variables, or integer
            variables that leave the box of the base program.
        """
        return float(self.leaf_bounds(program).min())

    def leaf_bounds(self, program: Program) -> np.ndarray:
        """The term of each leaf; infinite where a leaf's box is empty."""
        low, high = self._boxes(program)
        reduced = program.cost - self.duals @ program.matrix
        terms = np.minimum(_times(reduced, low), _times(reduced, high)).sum(axis=1)
        positive, negative = np.maximum(self.duals, 0.0), np.minimum(self.duals, 0.0)
        terms += _times(positive, program.row_lower).sum(axis=1)
        terms += _times(negative, program.row_upper).sum(axis=1)
        terms += program.offset
        terms -= self._rounding(program, low, high)
        return np.where((low > high).any(axis=1), np.inf, terms)

    def _rounding(self, program: Program, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """A bound on the rounding error of every term."""
        m, n = program.shape
        size = np.abs(self.duals)
        reach = np.maximum(np.abs(low), np.abs(high))
        total = ((np.abs(program.cost) + size @ abs(program.matrix)) * reach).sum(axis=1)
        sides = np.where(self.duals > 0, program.row_lower, program.row_upper)
        total += np.abs(_times(self.duals, sides)).sum(axis=1) + abs(program.offset)
        error = (m + n + 10) * EPS * total
        return np.where(np.isfinite(error), error, 0.0)

    def _boxes(self, program: Program) -> tuple[np.ndarray, np.ndarray]:
        base = self.base
        if program.shape != base.shape or (program.integer != base.integer).any():
            raise ValueError(
                "the program must have the rows, columns and integer variables of the "
                "one the tree was grown for."
            )
        _check_finite(program)
        whole = base.integer
        outside = whole & ((program.lower < base.lower) | (program.upper > base.upper))
        if outside.any():
            raise ValueError(
                f"integer variable {np.flatnonzero(outside)[0]} may leave the box of the "
                "base program, which the leaves cover; grow the tree for the larger box."
            )
        low = np.where(whole, np.maximum(self.lower, program.lower), program.lower)
        high = np.where(whole, np.minimum(self.upper, program.upper), program.upper)
        return low, high

    def supergradient(self, program: Program) -> np.ndarray:
        """An element of the superdifferential in all data.

        For every other program with the same bounds of the variables,
        ``G(other) <= G(program) + g @ (other.to_vector() - program.to_vector())``.
        Where one leaf is active and its LP is not degenerate it is the gradient of the
        optimal value as well. Entries for bounds of integer variables are 0.

        Returns
        -------
        (n_data,) array
            As in :meth:`Program.to_vector`.
        """
        low, high = self._boxes(program)
        active = int(np.argmin(self.leaf_bounds(program)))
        y = self.duals[active]
        reduced = program.cost - program.matrix.T @ y
        scale = ZERO * (np.abs(program.cost) + abs(program.matrix).T @ np.abs(y) + 1.0)
        x = np.where(reduced > 0, low[active], high[active])
        # At reduced cost 0 every point of the box is an element; the LP's own makes it
        # the gradient at the base.
        own = self.points[active]
        if own is not None:
            point = np.clip(own, low[active], high[active])
            x = np.where(np.abs(reduced) <= scale, point, x)
        return program.envelope(x, y)


def _times(factor: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Products in which 0 times infinity is 0."""
    with np.errstate(invalid="ignore"):
        return np.where(factor == 0.0, 0.0, factor * other)


def _check_finite(program: Program) -> None:
    infinite = ~(np.isfinite(program.lower) & np.isfinite(program.upper))
    if infinite.any():
        raise ValueError(
            f"variable {np.flatnonzero(infinite)[0]} has an infinite bound; a dual "
            "function for all data needs a finite box."
        )
