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
from pyomo_relu.programs.branch_and_bound import Tree
from pyomo_relu.programs.program import Program
from pyomo_relu.programs.sharp import (
    Relaxed,
    SolverError,
    Unbounded,
    solve_lp,
)

#: A dual below this, or a distance from a bound relative to its size, counts as 0; ten
#: times the tolerance of the linear programs.
ACTIVE = 1e-8

#: Two gradients whose relative difference is below this count as equal. It was chosen by
#: hand: gradients are differences of duals, which are known to 1e-9 of their size.
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
        The derivatives of the data in the parameters.
    sign : float
        -1 if the program is the negative of a maximization.
    tie : float
    """
    program = tree.program
    margin = tie * max(1.0, abs(tree.value))
    active = [t.integral and t.bound <= tree.value + margin for t in tree.leaves]
    others = [leaf.bound for leaf, on in zip(tree.leaves, active) if not on]
    # Leaves whose integers are equal hold one assignment.
    assignments = {
        tuple(np.round(leaf.x[program.integer]).tolist()): leaf.x
        for leaf, on in zip(tree.leaves, active)
        if on and leaf.x is not None
    }
    rng = np.random.default_rng(0)
    faces = [_Face(program.with_integers(x), jacobian, rng) for x in assignments.values()]
    elements = sign * np.array([g for face in faces for g in face.elements])
    scale = max(1.0, float(np.abs(elements).max(initial=0.0)))
    kink = bool(np.ptp(elements, axis=0).max(initial=0.0) > SAME * scale)
    smooth = all(face.smooth for face in faces)
    nondegenerate = all(face.nondegenerate() for face in faces)
    return Certificate(
        differentiable=smooth and not kink,
        kink=kink,
        reason=_reason(kink, smooth, nondegenerate, len(assignments)),
        value=sign * tree.value,
        gradient=elements[0],
        elements=elements,
        gap=float(min(others, default=np.inf) - tree.value),
        unique_leaf=len(assignments) == 1,
        nondegenerate=nondegenerate,
        nodes=tree.nodes,
    )


def _reason(kink: bool, smooth: bool, nondegenerate: bool, assignments: int) -> str:
    """What is known, in words."""
    if kink and assignments == 1:
        what = "its linear program has several primal or dual solutions"
        return f"a kink: {what}, with different gradients"
    if kink:
        what = f"{assignments} assignments of the integers are optimal"
        return f"a kink: {what}, with different gradients"
    if not smooth:
        return (
            "not known: the linear program has several primal and several dual solutions, "
            "or unbounded duals, as at the edge of feasibility"
        )
    if assignments > 1:
        return f"{assignments} optimal assignments of the integers, one gradient"
    if not nondegenerate:
        return "one optimal assignment, a degenerate basis, one gradient"
    return "one optimal assignment, a nondegenerate basis"


class _Face:
    """The optimal faces of a linear program, seen through the parameters.

    Attributes
    ----------
    elements : list of (p,) arrays
        Gradients of pairs of solutions; more than one if the value isn't smooth.
    smooth : bool
    """

    def __init__(
        self, program: Program, jacobian: sp.csr_array, rng: np.random.Generator
    ) -> None:
        self.program, self.jacobian = program, jacobian
        self.solution = solution = solve_lp(program)
        self.x, self.y = solution.x, solution.y
        self.reduced = program.cost - program.matrix.T @ self.y
        activity = program.matrix @ self.x
        self.low, self.high = _tight(activity, program.row_lower, program.row_upper)
        self.at_lower, self.at_upper = _tight(self.x, program.lower, program.upper)
        self.elements = [self._gradient(self.x, self.y)]
        self.smooth = self._examine(rng)

    def nondegenerate(self) -> bool:
        """Whether the basis is primal and dual nondegenerate; fixed columns don't count."""
        p, basic, row_basic = self.program, self.solution.basic, self.solution.row_basic
        free, loose = p.lower < p.upper, p.row_lower < p.row_upper
        primal = (self.at_lower | self.at_upper) & basic & free
        primal_rows = (self.low | self.high) & row_basic & loose
        dual = ~basic & free & (np.abs(self.reduced) <= ACTIVE)
        dual_rows = ~row_basic & loose & (np.abs(self.y) <= ACTIVE)
        return not (primal.any() or primal_rows.any() or dual.any() or dual_rows.any())

    def _gradient(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return self.jacobian.T @ self.program.envelope(x, y)

    def _examine(self, rng: np.random.Generator) -> bool:
        p = self.program
        data = self.jacobian @ rng.standard_normal(self.jacobian.shape[1])
        at = p.slices()
        change = sp.csr_array(
            (data[at["matrix"]], p.matrix.indices, p.matrix.indptr), p.shape
        )
        touched = np.zeros(len(data), dtype=bool)
        touched[self.jacobian.tocoo().row] = True
        entries = touched[at["matrix"]]
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
        columns, rows = touched[at["cost"]].copy(), np.zeros(p.shape[0], dtype=bool)
        columns[p.matrix.indices[entries]] = True
        rows[p.entry_rows()[entries]] = True
        rows |= touched[at["row_lower"]] | touched[at["row_upper"]]
        if self._primal(_random(columns, rng), keep=False):
            return True
        return self._dual(_random(rows, rng), keep=False)

    def _primal(self, direction: np.ndarray, keep: bool = True) -> bool:
        """Whether a linear function is constant on the optimal points."""
        p = self.program
        lower, upper = p.lower.copy(), p.upper.copy()
        held = np.abs(self.reduced) > ACTIVE
        lower[held] = upper[held] = self.x[held]
        low = np.where(self.y < -ACTIVE, p.row_upper, p.row_lower)
        high = np.where(self.y > ACTIVE, np.minimum(p.row_upper, p.row_lower), p.row_upper)
        ends = _range(_face(p.cost, p.matrix, low, high, lower, upper), direction)
        return self._flat(direction, ends, [(x, self.y) for x in ends or ()], keep)

    def _dual(self, direction: np.ndarray, keep: bool = True) -> bool:
        """Whether a linear function is constant on the optimal duals."""
        p = self.program
        equal, fixed = p.row_lower == p.row_upper, p.lower == p.upper
        lower = np.where(self.high | equal, -np.inf, 0.0)
        upper = np.where(self.low | equal, np.inf, 0.0)
        # cost - A.T y >= 0 unless x is at its upper bound, <= 0 unless at its lower one.
        low = np.where(self.at_lower | fixed, -np.inf, p.cost)
        high = np.where(self.at_upper | fixed, np.inf, p.cost)
        matrix = sp.csr_array(p.matrix.T)
        face = _face(np.zeros(p.shape[0]), matrix, low, high, lower, upper)
        ends = _range(face, direction)
        return self._flat(direction, ends, [(self.x, y) for y in ends or ()], keep)

    def _flat(
        self,
        direction: np.ndarray,
        ends: tuple[np.ndarray, np.ndarray] | None,
        pairs: list[tuple[np.ndarray, np.ndarray]],
        keep: bool,
    ) -> bool:
        """Whether the ends are equal; the gradients of their pairs are kept if not."""
        if ends is None:
            return False
        a, b = (float(direction @ e) for e in ends)
        size = max(float(np.abs(direction) @ np.abs(e)) for e in ends)
        flat = abs(a - b) <= SAME * max(1.0, size)
        if not flat and keep:
            self.elements += [self._gradient(x, y) for x, y in pairs]
        return flat


def _random(chosen: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Random numbers where chosen, else 0."""
    return np.where(chosen, rng.standard_normal(len(chosen)), 0.0)


def _face(
    cost: np.ndarray,
    matrix: sp.csr_array,
    row_lower: np.ndarray,
    row_upper: np.ndarray,
    lower: np.ndarray,
    upper: np.ndarray,
) -> Program:
    """A linear program without a constant."""
    integer = np.zeros(len(cost), dtype=bool)
    return Program(cost, lower, upper, matrix, row_lower, row_upper, integer=integer)


def _tight(
    value: np.ndarray, low: np.ndarray, high: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Where values are at their lower and at their upper bounds."""
    scale = ACTIVE * np.maximum(1.0, np.abs(value))
    return value - low <= scale, high - value <= scale


def _range(face: Program, direction: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Where a linear function is smallest and largest; None if that isn't found."""
    if not direction.any():
        zero = np.zeros(face.shape[1])
        return zero, zero
    lp = Relaxed(face)
    try:
        least, most = (lp.minimize(cost) for cost in (direction, -direction))
    except (Unbounded, SolverError):
        return None
    if least is None or most is None:
        return None
    return least.x, most.x
