r"""`SubadditiveDual`: a subadditive dual of a mixed-integer program from a tree.

For :math:`z(d) = \min\{c^\top x : Rx \ge d,\ x \ge 0,\ x_I \in \{0, 1\}\}` (widths of variables
are rows) let a tree of branch and bound have leaves :math:`t` with multipliers
:math:`y^t \ge 0` of the rows and :math:`\mu^t \ge 0` of the branching bounds. Where a node
fixes :math:`x_k` to 0 on its left and to 1 on its right, let :math:`\alpha, \beta` be the
largest multipliers of :math:`x_k \le 0` and of :math:`x_k \ge 1` among the leaves below, and

.. math::
    F_{\mathrm{leaf}}(d) = y^{t\top} d, \qquad
    F_{\mathrm{node}}(d) = \min_{m \in \mathbb{Z}} \max\bigl(
        F_{\mathrm{left}}(d) - \alpha m,\ F_{\mathrm{right}}(d) + \beta m \bigr) .

Multipliers that differ between leaves are made equal with the rows of widths, which changes
no bound. The inner function is nondecreasing and subadditive in its two arguments, so
:math:`F` at the root is nondecreasing and subadditive, :math:`F(0) = 0`. By induction
:math:`F(R_j) \le c_j` for binary columns (:math:`m = 1` at the nodes of their own, 0
elsewhere), :math:`\bar F(R_j) = \max_t y^{t\top} R_j \le c_j` for continuous ones, and
:math:`F(d)` is at least the bound of the least leaf (:math:`m \le 0` gives at least the left
one, :math:`m \ge 1` the right one). The duals of the root's relaxation are such a function as
well, and the larger of the two keeps all of this. So :math:`F` is an optimal solution of the
subadditive dual: below :math:`z` for every right-hand side and equal to it where the tree was
grown. It is piecewise linear and continuous, and on a bounded set of right-hand sides
:math:`m` takes finitely many values, so that it is semialgebraic there.

For other matrices and costs :math:`F(d) + \sum_j \min(0, c_j - F(R_j))\, w_j` with widths
:math:`w` is a bound, as :math:`c^\top x \ge \sum_j F(R_j) x_j - \dots`.

Sources: the step is the strengthened disjunctive cut of Balas and Jeroslow, EJOR 4, 1980, for
:math:`x_k \le 0` or :math:`x_k \ge 1`; the dual is that of Jeroslow (1978), Guzelsoy and Ralphs
(2007) and, for conic programs, Kocuk and Moran, SIAM J. Optim. 29(3), 2019, used for training
by Aspman, Korpas and Marecek, arXiv 2310.04469.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from pyomo_relu.base.deadline import NEVER, Deadline
from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.base.rounding import EPS
from pyomo_relu.differentiable.dual_function import DualFunction
from pyomo_relu.differentiable.right_hand_sides import Binaries, Sides, sides_of
from pyomo_relu.programs.branch_and_bound import Leaf, Tree, branch_and_bound
from pyomo_relu.programs.program import Program
from pyomo_relu.programs.sharp import Relaxed

#: The least alpha of a node relative to the largest cost. A larger one than needed is valid,
#: and with it the best m is found without a division by nearly 0; chosen by hand.
LEAST_ALPHA = 1e-6

#: Right-hand sides that are evaluated together, so that memory stays within leaves times this.
TOGETHER = 64


@dataclass(frozen=True)
class _Level:
    """Nodes whose children lie deeper: their numbers, their children's, alpha and beta."""

    node: np.ndarray
    left: np.ndarray
    right: np.ndarray
    alpha: np.ndarray
    beta: np.ndarray


class SubadditiveDual:
    """An optimal nondecreasing subadditive function of the right-hand side.

    Parameters
    ----------
    program : Program
        A minimization. Lower bounds of all variables are finite, and both bounds of integers.
    node_limit : int
        How many nodes the tree may have.
    deadline : Deadline

    Attributes
    ----------
    program : Program
    value : float
        Its optimal value.
    x : (n,) array
        An optimal point.
    right : (r,) array
        The right-hand side of the program: lower sides of rows, negative upper sides, both
        less what the lower bounds of variables fill, and negative widths of the variables;
        last come the rows of the binaries that integers are written with. See
        :mod:`~pyomo_relu.differentiable.right_hand_sides`.
    multipliers : (leaves + 1, r) CSR array
        At least 0; last those of the root.
    leaves, height, nodes : int
        Leaves of the tree, nested minima, and linear programs that were solved.

    Raises
    ------
    ValueError
        For bounds that are missing.
    Infeasible, NodeLimit, TimeUp

    Examples
    --------
    >>> program = Program.from_arrays([1, 1], [[2, 2]], row_lower=3, upper=1, integer=True)
    >>> dual = SubadditiveDual(program)
    >>> print(round(dual(dual.right), 6), round(dual.bound(program), 6))
    2.0 2.0
    >>> bool(dual.slacks().min() > -1e-9)
    True
    """

    def __init__(
        self, program: Program, *, node_limit: int = 20_000, deadline: Deadline = NEVER
    ) -> None:
        self._binaries = Binaries(program)
        written = self._binaries.write(program)
        tree = branch_and_bound(
            written, node_limit=node_limit, separate=False, deadline=deadline
        )
        self.program, self.value, self.nodes = program, tree.value, tree.nodes
        self.x = tree.x[: program.shape[1]]
        self._sides = sides_of(written)
        self._integer = written.integer
        self.right = self._sides.right
        self.multipliers, self._levels = _nested(tree, self._sides)
        root = Relaxed(written).solve()
        if root is not None:  # it has the points of the program
            whole = Leaf(written.lower, written.upper, root.y, root.value, root.x, False)
            floor, _ = _leaf_rows(written, self._sides, whole)
            self.multipliers = sp.csr_array(sp.vstack([self.multipliers, floor[None]]))
        self._absolute = abs(self.multipliers)
        # The most products that a value of a leaf is the sum of.
        self._rounding = _terms(int(np.diff(self.multipliers.indptr).max(initial=0)))
        self._points = [leaf.x for leaf in tree.leaves] + [None]
        self._tree = tree
        self.leaves, self.height = len(tree.leaves), len(self._levels)

    # ------------------------------------------------------------------ the function
    def __call__(self, right: Any) -> Any:
        """F at right-hand sides, (r,) or (N, r), rounded down: a float or (N,).

        Entries of a side that isn't there are of no account.
        """
        rows = self._rows(right)
        found = [v - e for v, e, _ in self._parts(rows, np.abs(rows))]
        values = np.concatenate(found) if found else np.zeros(0)
        return float(values[0]) if np.ndim(right) == 1 else values

    def gradient(self, right: Any = None) -> np.ndarray:
        """The gradient of F in the right-hand side, (r,) or (N, r).

        Where F has a kink it is that of one piece; F is piecewise linear. Without
        ``right`` it is that at the program's own.
        """
        rows = self._rows(self.right if right is None else right)
        active = [a for *_, a in self._parts(rows, np.abs(rows))]
        every = np.concatenate(active) if active else np.zeros(0, int)
        found = self.multipliers[every].toarray()
        return found[0] if right is None or np.ndim(right) == 1 else found

    def slacks(self, program: Program | None = None) -> np.ndarray:
        """Lower bounds of ``cost_j - F(column_j)``, at least -1e-9 or so at the own program.

        Of continuous variables F's slope at 0 in the direction of the column counts. Columns
        are those of the program, then the binaries that integers are written with.

        Parameters
        ----------
        program : Program, optional
            Another program with the same structure.
        """
        sides = self._sides if program is None else self._sides_of(program)
        a = sides.columns
        products = sp.csc_array(self.multipliers @ a)
        sizes = sp.csc_array(self._absolute @ abs(a))
        most = products.max(axis=0).toarray().reshape(-1)
        size = sizes.max(axis=0).toarray().reshape(-1)
        error = self._rounding * EPS * size
        whole = np.flatnonzero(self._integer)
        columns = np.asarray(a[:, whole].T.todense())
        values = [(v, e) for v, e, _ in self._parts(columns, np.abs(columns))]
        if values:
            most[whole] = np.concatenate([v for v, _ in values])
            error[whole] = np.concatenate([e for _, e in values])
        return sides.cost - most - error - EPS * np.abs(sides.cost)

    # --------------------------------------------------------------- other programs
    def right_of(self, program: Program) -> np.ndarray:
        """The right-hand side, (r,), of a program of the same structure."""
        return self._sides_of(program).right

    def bound(self, program: Program | None = None) -> float:
        """A lower bound on the optimal value of a program with other data.

        For other right-hand sides, bounds of variables included, it is F and the objective
        at the lower bounds; where columns or costs differ, what F then exceeds the cost of a
        column by is taken off, times its width. The root's duals alone are a bound of the same
        kind, and the larger one counts. It is rounded down.

        Raises
        ------
        ValueError
            If the program has another shape, other integer variables, or integer variables
            that leave the box of the own program.
        """
        sides = self._sides if program is None else self._sides_of(program)
        rows = self._rows(sides.right)
        value, error, _ = next(self._parts(rows, sides.size[None]))
        own = float(value[0]) - float(error[0])
        return max(
            _total(sides, own, self.slacks(program)), self._root_bound(sides, rows[0])
        )

    def root_bound(self, program: Program | None = None) -> float:
        """The bound of the root's relaxation alone, to compare :meth:`bound` with."""
        sides = self._sides if program is None else self._sides_of(program)
        return self._root_bound(sides, self._rows(sides.right)[0])

    def _root_bound(self, sides: Sides, right: np.ndarray) -> float:
        root, size = self.multipliers[[-1]], self._absolute[[-1]]
        used, own = root @ sides.columns, size @ abs(sides.columns)
        slacks = sides.cost - used.toarray()[0]
        rounding = self._rounding * EPS
        slacks -= rounding * (own.toarray()[0] + np.abs(sides.cost))
        least, off = float((root @ right)[0]), float((size @ sides.size)[0])
        return _total(sides, least - rounding * off, slacks)

    def data_gradient(self) -> np.ndarray:
        """The derivative of the value in all data of the program, by the active leaf.

        The envelope formula with the leaf's own point; an element of a conservative gradient
        where several are optimal.

        Returns
        -------
        (n_data,) array
            As in :meth:`Program.to_vector`.
        """
        m, n = self.program.shape
        rows = self._rows(self.right)
        _, _, active = next(self._parts(rows, self._sides.size[None]))
        y = self.multipliers[[int(active[0])]].toarray()[0]
        every = self._sides.columns.shape[1]
        k = (len(y) - every) // 2
        own = self._points[int(active[0])]
        x = self.x if own is None else own[:n]
        return self.program.envelope(x, (y[:k] - y[k : 2 * k])[:m])

    def least_leaf(self) -> Callable[[Program], float]:
        """The bound of :class:`DualFunction` from the same tree, as a function of a program.

        It needs finite bounds of all variables. Where right-hand sides of rows or bounds of
        continuous variables differ, F is at least as large.
        """
        function = DualFunction(self._tree)
        return lambda program: function(self._binaries.write(program))

    # --------------------------------------------------------------------- inner parts
    def _sides_of(self, program: Program) -> Sides:
        return sides_of(self._binaries.write(program))

    def _rows(self, right: Any) -> np.ndarray:
        """Right-hand sides as (N, r); sides that don't exist count 0, as no leaf uses them."""
        rows = np.atleast_2d(np.asarray(right, dtype=float))
        if rows.ndim != 2 or rows.shape[1] != len(self.right):
            raise ValueError(f"a right-hand side has {len(self.right)} entries.")
        if np.isnan(rows).any() or (rows == np.inf).any():
            raise ValueError("an entry of a right-hand side is NaN or infinite.")
        absent = np.isinf(self.right)
        lost = np.isinf(rows) & ~absent
        if lost.any():
            raise ValueError(
                f"entry {np.argwhere(lost)[0, 1]} of the right-hand side is infinite, but "
                "was finite where the dual was made; give a finite one."
            )
        return np.where(absent, 0.0, rows)

    def _parts(
        self, rows: np.ndarray, sizes: np.ndarray
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Values, bounds on their errors, and active leaves, of some rows at a time."""
        for k in range(0, len(rows), TOGETHER):
            yield self._values(rows[k : k + TOGETHER], sizes[k : k + TOGETHER])

    def _values(
        self, rows: np.ndarray, sizes: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        t = self.leaves
        count = 2 * t - 1
        sizes = np.where(np.isfinite(sizes), sizes, 0.0)
        value = np.zeros((count, len(rows)))
        error = np.zeros_like(value)
        active = np.zeros(value.shape, dtype=int)
        linear = self.multipliers @ rows.T
        errors = self._rounding * EPS * (self._absolute @ sizes.T)
        value[:t], error[:t] = linear[:t], errors[:t]
        active[:t] = np.arange(t)[:, None]
        for level in self._levels:
            p, q = value[level.left], value[level.right]
            alpha, beta = level.alpha[:, None], level.beta[:, None]
            near = np.round((p - q) / (alpha + beta))
            best = np.full(p.shape, np.inf)
            at = np.zeros(p.shape)
            # The best m is the quotient rounded down or up, whatever its own rounding.
            for m in (near - 1.0, near, near + 1.0):
                found = np.maximum(p - alpha * m, q + beta * m)
                at = np.where(found < best, m, at)
                best = np.minimum(found, best)
            value[level.node] = best
            size = np.abs(p) + np.abs(q) + (alpha + beta) * (np.abs(near) + 1.0)
            error[level.node] = (
                np.maximum(error[level.left], error[level.right]) + 4.0 * EPS * size
            )
            left = p - alpha * at >= q + beta * at
            active[level.node] = np.where(left, active[level.left], active[level.right])
        floor = linear[-1] > value[-1]
        return (
            np.where(floor, linear[-1], value[-1]),
            np.maximum(errors[-1], error[-1]),
            np.where(floor, t, active[-1]),
        )


def _total(sides: Sides, value: float, slacks: np.ndarray) -> float:
    """A value less what columns exceed their costs by, and the constant, rounded down."""
    short = np.minimum(slacks, 0.0)
    if np.isinf(sides.width[short < 0.0]).any():
        return -np.inf
    lost = np.where(short < 0.0, short, 0.0) * np.where(short < 0.0, sides.width, 0.0)
    size = abs(value) + float(np.abs(lost).sum()) + sides.constant_size
    total = value + float(lost.sum()) + sides.constant
    return total - _terms(len(lost)) * EPS * size


def _terms(count: int) -> float:
    """How many roundings a sum of so many products may have, and some more."""
    return count + 20.0


def _nested(tree: Tree, sides: Sides) -> tuple[sp.csr_array, list[_Level]]:
    """Multipliers of the leaves, made equal along paths, and the nodes above them."""
    base = tree.program
    whole = np.flatnonzero(base.integer)
    rows, literal = zip(*(_leaf_rows(base, sides, leaf) for leaf in tree.leaves))
    multipliers, literals = np.array(rows), np.array(literal)[:, whole]
    low = np.array([leaf.lower for leaf in tree.leaves])[:, whole]
    high = np.array([leaf.upper for leaf in tree.leaves])[:, whole]
    origin = np.array([base.lower[whole]])
    side = np.where(low == high, (low > origin).astype(int), -1)
    widths = 2 * base.shape[0] + whole  # the rows of the widths of integer variables
    least = LEAST_ALPHA * max(1.0, float(np.abs(base.cost).max(initial=0.0)))

    split = _splits(side, base.upper[whole] == base.lower[whole])
    count = len(tree.leaves)
    alpha, beta = np.zeros(len(split)), np.zeros(len(split))
    for node, (k, left, right) in enumerate(split):
        alpha[node] = max(literals[left, k].max(), least)
        beta[node] = literals[right, k].max()
        multipliers[right, widths[k]] += beta[node] - literals[right, k]
    return sp.csr_array(multipliers), _by_height(split, count, alpha, beta)


def _leaf_rows(base: Program, sides: Sides, leaf: Leaf) -> tuple[np.ndarray, np.ndarray]:
    """Multipliers of the rows, (r,), and of the bounds by branching, (n,), of a leaf."""
    y = np.where(np.isinf(base.row_lower), np.minimum(leaf.y, 0.0), leaf.y)
    y = np.where(np.isinf(base.row_upper), np.maximum(y, 0.0), y)
    # A variable without an upper bound has no row for a reduced cost below 0, which there
    # is by rounding only; slightly smaller multipliers leave none, by more than what
    # the slack of its column is lowered by for its own rounding.
    error = 3.0 * _terms(sum(base.shape)) * EPS * (abs(base.matrix).T @ np.abs(y))
    used = base.matrix.T @ y + error + 3.0 * EPS * np.abs(base.cost) * (error > 0)
    over = np.isinf(sides.width) & (base.cost < used)
    factors = np.maximum(base.cost[over], 0.0) / used[over]
    y = y * float(factors.min(initial=1.0))
    reduced = base.cost - base.matrix.T @ y
    fixed = base.integer & (leaf.lower == leaf.upper) & (base.lower < base.upper)
    off, on = fixed & (leaf.upper == base.lower), fixed & (leaf.lower == base.upper)
    literal = np.where(off, np.maximum(-reduced, 0.0), 0.0)
    literal = np.where(on, np.maximum(reduced, 0.0), literal)
    width = np.where(off | np.isinf(sides.width), 0.0, np.maximum(-reduced, 0.0))
    return np.concatenate([np.maximum(y, 0.0), np.maximum(-y, 0.0), width]), literal


def _splits(
    side: np.ndarray, given: np.ndarray
) -> list[tuple[int, np.ndarray, np.ndarray]]:
    """A variable for each inner node and the leaves on both sides, the root first.

    Any variable that all leaves below a node fix, and no node above, may be split on; the
    tree that was grown has one.
    """
    found: list[tuple[int, np.ndarray, np.ndarray]] = []
    waiting = [(np.arange(len(side)), given.copy())]
    while waiting:
        leaves, path = waiting.pop()
        if len(leaves) == 1:
            continue
        k = int(np.argmax((side[leaves] >= 0).all(axis=0) & ~path))
        below = path.copy()
        below[k] = True
        left, right = leaves[side[leaves, k] == 0], leaves[side[leaves, k] == 1]
        found.append((k, left, right))
        waiting += [(left, below), (right, below)]
    return found


def _by_height(
    split: list[tuple[int, np.ndarray, np.ndarray]],
    count: int,
    alpha: np.ndarray,
    beta: np.ndarray,
) -> list[_Level]:
    """Nodes in groups whose children are leaves or in groups before; the root is last."""
    number: dict[bytes, int] = {}
    height = np.zeros(2 * count - 1, dtype=int)
    groups: dict[int, list[tuple[int, int, int, float, float]]] = {}
    for place, node in enumerate(range(len(split) - 1, -1, -1)):
        _, left, right = split[node]
        own = count + place
        a, b = (
            int(part[0]) if len(part) == 1 else number[part.tobytes()]
            for part in (left, right)
        )
        height[own] = 1 + max(height[a], height[b])
        number[np.sort(np.concatenate([left, right])).tobytes()] = own
        entry = (own, a, b, float(alpha[node]), float(beta[node]))
        groups.setdefault(int(height[own]), []).append(entry)
    levels = []
    for h in sorted(groups):
        levels.append(_Level(*(np.array(part) for part in zip(*groups[h]))))
    return levels
