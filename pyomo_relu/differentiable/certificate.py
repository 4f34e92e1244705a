r"""Whether the optimal value is differentiable at a point, with proof.

The value is the minimum of the linear programs of the integer assignments. Near a point
only those count that are optimal there, which a tree that separates ties finds. It is
differentiable if all of them are, with one gradient. A linear program's value has the
directional derivative :math:`\min_{x \in X^*} \max_{y \in Y^*}` of the Lagrangian's, so
it is differentiable if the envelope formula is constant on :math:`X^* \times Y^*`. That
is weaker than a nondegenerate basis: redundant rows, which training programs have many
of, make a basis degenerate, but not the value nonsmooth.

Constancy on a polytope is tested along one random direction in the space of the
parameters, which misses a difference with probability 0.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.differentiable.branch_and_bound import Tree
from pyomo_relu.differentiable.lp import (
    LinearProgram,
    Solution,
    SolverError,
    Unbounded,
    solve_lp,
)
from pyomo_relu.differentiable.program import Program

#: Below this a dual or a distance from a bound counts as 0.
ACTIVE = 1e-8

#: Relative difference below which two gradients count as equal.
SAME = 1e-6


@dataclass(frozen=True)
class Certificate:
    """What is known about the value at one point.

    Attributes
    ----------
    differentiable : bool
        True is proven, up to the tolerances. False means a kink, or not known.
    kink : bool
        Whether two different elements of the conservative gradient were found.
    reason : str
        In words.
    value : float
    gradient : (p,) array
        The gradient, or one element of the conservative gradient.
    elements : (k, p) array
        All elements that were found.
    gap : float
        By how much the best leaf that isn't active exceeds the optimum.
    unique_leaf : bool
        Whether one assignment of the integers is optimal.
    nondegenerate : bool
        Whether every active linear program has a primal and dual nondegenerate basis.
    nodes : int
    """

    differentiable: bool
    kink: bool
    reason: str
    value: float
    gradient: np.ndarray
    elements: np.ndarray = field(repr=False)
    gap: float
    unique_leaf: bool
    nondegenerate: bool
    nodes: int


def certify(
    tree: Tree, jacobian: sp.csr_array, sign: float = 1.0, tie: float = 1e-7
) -> Certificate:
    """Certify the value at the point where a tree was grown.

    Parameters
    ----------
    tree : Tree
        Grown with the same ``tie``.
    jacobian : (n_data, p) sparse array
        Of the data in the parameters.
    sign : float
        -1 if the program is the negative of a maximization.
    tie : float
    """
    program = tree.program
    margin = tie * max(1.0, abs(tree.value))
    active = [
        leaf for leaf in tree.leaves if leaf.integral and leaf.bound <= tree.value + margin
    ]
    others = [leaf.bound for leaf in tree.leaves if not any(leaf is a for a in active)]
    gap = min(others, default=np.inf) - tree.value
    # Leaves whose integers are equal hold one assignment.
    assignments: dict[tuple[float, ...], np.ndarray] = {}
    for leaf in active:
        if leaf.x is not None:
            assignments[tuple(np.round(leaf.x[program.integer]).tolist())] = leaf.x
    rng = np.random.default_rng(0)
    elements, smooth, nondegenerate = [], True, True
    for point in assignments.values():
        fixed = program.with_integers(point)
        solution = solve_lp(fixed)
        face = _Face(fixed, solution, jacobian, rng)
        elements += [sign * g for g in face.elements()]
        smooth &= face.smooth
        nondegenerate &= face.nondegenerate()
    stacked = np.array(elements)
    scale = max(1.0, float(np.abs(stacked).max(initial=0.0)))
    kink = bool(np.ptp(stacked, axis=0).max(initial=0.0) > SAME * scale)
    unique = len(assignments) == 1
    if kink:
        what = "a kink: " + (
            "its linear program has several primal or dual solutions"
            if unique
            else f"{len(assignments)} assignments of the integers are optimal"
        )
        reason = what + ", with different gradients"
    elif not smooth:
        reason = (
            "not known: the linear program has several primal and several dual solutions, "
            "or unbounded duals, as at the edge of feasibility"
        )
    elif not unique:
        reason = f"{len(assignments)} optimal assignments of the integers, one gradient"
    elif not nondegenerate:
        reason = "one optimal assignment, a degenerate basis, one gradient"
    else:
        reason = "one optimal assignment, a nondegenerate basis"
    return Certificate(
        smooth and not kink,
        kink,
        reason,
        sign * tree.value,
        stacked[0],
        stacked,
        float(gap),
        unique,
        nondegenerate,
        tree.nodes,
    )


class _Face:
    """The optimal faces of a linear program, seen through the parameters."""

    def __init__(
        self, program: Program, solution: Solution, jacobian: sp.csr_array, rng
    ) -> None:
        self.program, self.jacobian = program, jacobian
        self.x, self.y = solution.x, solution.y
        self.basic, self.row_basic = solution.basic, solution.row_basic
        self.reduced = program.cost - program.matrix.T @ self.y
        activity = program.matrix @ self.x
        self.low, self.high = _tight(activity, program.row_lower, program.row_upper)
        self.at_lower, self.at_upper = _tight(self.x, program.lower, program.upper)
        self._found = [self._gradient(self.x, self.y)]
        self.smooth = self._examine(rng)

    def elements(self) -> list[np.ndarray]:
        """Gradients of pairs of solutions; more than one if the value isn't smooth."""
        return self._found

    def nondegenerate(self) -> bool:
        """Whether the basis is primal and dual nondegenerate; fixed columns don't count."""
        p = self.program
        free = p.lower < p.upper
        primal = (self.at_lower | self.at_upper) & self.basic & free
        loose = p.row_lower < p.row_upper
        primal_rows = (self.low | self.high) & self.row_basic & loose
        dual = ~self.basic & free & (np.abs(self.reduced) <= ACTIVE)
        dual_rows = ~self.row_basic & loose & (np.abs(self.y) <= ACTIVE)
        return not (primal.any() or primal_rows.any() or dual.any() or dual_rows.any())

    def _gradient(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return self.jacobian.T @ self.program.envelope(x, y)

    def _examine(self, rng) -> bool:
        p = self.program
        t = rng.standard_normal(self.jacobian.shape[1])
        data = self.jacobian @ t
        at = p.slices()
        change = sp.csr_array(
            (data[at["matrix"]], p.matrix.indices, p.matrix.indptr), p.shape
        )
        touched = np.zeros(len(data), dtype=bool)
        touched[self.jacobian.tocoo().row] = True
        entries = touched[at["matrix"]]
        columns, rows = touched[at["cost"]].copy(), np.zeros(p.shape[0], dtype=bool)
        columns[p.matrix.indices[entries]] = True
        rows[p.entry_rows()[entries]] = True
        rows |= touched[at["row_lower"]] | touched[at["row_upper"]]
        bounds = touched[at["lower"]] | touched[at["upper"]]

        constant_x = self._primal(data[at["cost"]] - change.T @ self.y)
        side = np.where(self.low, data[at["row_lower"]], data[at["row_upper"]])
        slope = np.where(self.at_lower, data[at["lower"]], data[at["upper"]])
        slope = np.where(bounds, slope, 0.0)
        constant_y = self._dual(side - change @ self.x - p.matrix @ slope)
        if not (constant_x and constant_y):
            return False
        if not entries.any():
            return True  # the formula has no product of x and y
        if self._primal(
            np.where(columns, rng.standard_normal(len(columns)), 0.0), keep=False
        ):
            return True
        return self._dual(np.where(rows, rng.standard_normal(len(rows)), 0.0), keep=False)

    def _primal(self, direction: np.ndarray, keep: bool = True) -> bool:
        """Whether a linear function is constant on the optimal points."""
        p = self.program
        lower, upper = p.lower.copy(), p.upper.copy()
        held = np.abs(self.reduced) > ACTIVE
        lower[held] = upper[held] = self.x[held]
        low, high = p.row_lower.copy(), p.row_upper.copy()
        low = np.where(self.y < -ACTIVE, high, low)
        high = np.where(self.y > ACTIVE, np.minimum(high, p.row_lower), high)
        face = Program(
            p.cost, p.matrix, low, high, lower, upper, np.zeros_like(p.integer), 0.0
        )
        ends = _range(face, direction)
        if ends is None:
            return False
        flat = _flat(direction, ends)
        if not flat and keep:
            self._found += [self._gradient(x, self.y) for x in ends]
        return flat

    def _dual(self, direction: np.ndarray, keep: bool = True) -> bool:
        """Whether a linear function is constant on the optimal duals."""
        p = self.program
        m, n = p.shape
        equal = p.row_lower == p.row_upper
        lower = np.where(self.high | equal, -np.inf, 0.0)
        upper = np.where(self.low | equal, np.inf, 0.0)
        fixed = p.lower == p.upper
        # cost - A.T y >= 0 unless x is at its upper bound, <= 0 unless at its lower one.
        low = np.where(self.at_lower | fixed, -np.inf, p.cost)
        high = np.where(self.at_upper | fixed, np.inf, p.cost)
        face = Program(
            np.zeros(m),
            sp.csr_array(p.matrix.T),
            low,
            high,
            lower,
            upper,
            np.zeros(m, dtype=bool),
        )
        ends = _range(face, direction)
        if ends is None:
            return False
        flat = _flat(direction, ends)
        if not flat and keep:
            self._found += [self._gradient(self.x, y) for y in ends]
        return flat


def _tight(value: np.ndarray, low: np.ndarray, high: np.ndarray):
    scale = ACTIVE * np.maximum(1.0, np.abs(value))
    return value - low <= scale, high - value <= scale


def _flat(direction: np.ndarray, ends: tuple[np.ndarray, np.ndarray]) -> bool:
    a, b = (float(direction @ e) for e in ends)
    size = max(float(np.abs(direction) @ np.abs(e)) for e in ends)
    return abs(a - b) <= SAME * max(1.0, size)


def _range(face: Program, direction: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Where a linear function is smallest and largest; None if that isn't found."""
    if not direction.any():
        zero = np.zeros(face.shape[1])
        return zero, zero
    lp = LinearProgram(face)
    try:
        least, most = (lp.minimize(cost) for cost in (direction, -direction))
    except (Unbounded, SolverError):
        return None
    if least is None or most is None:
        return None
    return least.x, most.x
