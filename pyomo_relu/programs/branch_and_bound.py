"""Best-first branch and bound that keeps what its leaves prove.

HiGHS doesn't show its tree. This one is for small programs: it returns every leaf with
its box and its duals, from which :class:`~pyomo_relu.differentiable.DualFunction` is
made, and it separates optima that tie, which tells whether the value has a kink.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, replace

import numpy as np

from pyomo_relu.base.deadline import NEVER, Deadline
from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.programs.program import Program
from pyomo_relu.programs.sharp import (
    Infeasible,
    Relaxed,
    Solution,
    SolverError,
    solve_lp,
    solve_mip,
)


@dataclass(frozen=True)
class _Settings:
    """The numbers that steer the search; all were chosen by hand.

    Attributes
    ----------
    integrality : float
        A value this near to an integer counts as one; well above the tolerance of the
        linear programs, 1e-9.
    price : float
        The first price of a violation in the elastic program of a leaf without a point,
        relative to the largest cost. Small prices give small multipliers, so that the bound
        of the leaf changes little with the data.
    raised : float
        The least factor by which the price is raised.
    prices : int
        The number of prices that are tried.
    """

    integrality: float = 1e-7
    price: float = 0.1
    raised: float = 1.5
    prices: int = 60


_SETTINGS = _Settings()


class NodeLimit(RuntimeError):
    """The tree has more nodes than allowed."""


@dataclass(frozen=True)
class Leaf:
    """A box of the tree with a dual vector that bounds the program on it.

    Attributes
    ----------
    lower, upper : (n,) arrays
    y : (m,) array
    bound : float
        The bound of the relaxation; infinite if that has no point.
    x : (n,) array or None
        The relaxation's optimal point.
    integral : bool
        Whether that point is feasible for the program.
    """

    lower: np.ndarray
    upper: np.ndarray
    y: np.ndarray
    bound: float
    x: np.ndarray | None
    integral: bool


@dataclass(frozen=True)
class Tree:
    """The leaves, whose boxes partition the integer points, and the optimum.

    Attributes
    ----------
    program : Program
    leaves : tuple of Leaf
    value : float
    x : (n,) array
    nodes : int
        Linear programs solved.
    """

    program: Program
    leaves: tuple[Leaf, ...]
    value: float
    x: np.ndarray
    nodes: int


def branch_and_bound(
    program: Program,
    *,
    tie: float = 1e-7,
    node_limit: int = 20_000,
    separate: bool = True,
    deadline: Deadline = NEVER,
) -> Tree:
    """Solve a small program to optimality.

    A leaf with an integral optimum is split further where an integer variable could
    move at no cost, and leaves within ``tie`` of the optimum are not pruned: in the
    end every leaf either exceeds the optimum by more than ``tie``, or holds one optimal
    assignment of its integers.

    Parameters
    ----------
    program : Program
        Integer variables need finite bounds.
    tie : float
        Values closer than this (times ``max(1, |value|)``) count as equal.
    node_limit : int
    separate : bool
        Whether optima that tie are told apart. A bound that is tight needs no more than
        leaves that don't lie below the optimum by more than ``tie``, and fewer of them.
    deadline : Deadline

    Raises
    ------
    ValueError
        If an integer variable has an infinite bound.
    Infeasible, NodeLimit
    TimeUp
        When the deadline has passed before the tree is complete.
    """
    return _Search(program, tie, node_limit, separate, deadline).run()


class _Search:
    """The boxes that wait, the leaves, and the best point so far."""

    def __init__(
        self,
        program: Program,
        tie: float,
        node_limit: int,
        separate: bool,
        deadline: Deadline,
    ) -> None:
        _check_box(program)
        self.program, self.tie, self.node_limit = program, tie, node_limit
        self.separate, self.deadline = separate, deadline
        self.lp = Relaxed(program)
        self.waiting: list[tuple[float, int, np.ndarray, np.ndarray, Solution | None]] = []
        self.leaves: list[Leaf] = []
        self.best, self.nodes = np.inf, 0
        self.best_x: np.ndarray | None = None

    def run(self) -> Tree:
        """Split boxes, the one of the least bound first, until none waits."""
        whole, near = self.program.integer, _SETTINGS.integrality
        lower, upper = self.program.lower.copy(), self.program.upper.copy()
        lower[whole] = np.ceil(lower[whole] - near)
        upper[whole] = np.floor(upper[whole] + near)
        if (lower > upper).any():
            raise Infeasible("an integer variable has no integer between its bounds.")
        self._add(lower, upper)
        while self.waiting:
            self.deadline.check()
            bound, _, low, high, found = heapq.heappop(self.waiting)
            self._visit(bound, low, high, found)
        if self.best_x is None:
            raise Infeasible("no point satisfies the constraints.")
        x = self.best_x.copy()
        x[whole] = np.round(x[whole])
        target = self.best + max(1.0, abs(self.best))
        leaves = []
        for leaf in self.leaves:
            self.deadline.check()
            leaves.append(_with_duals(self.program, leaf, target))
        return Tree(self.program, tuple(leaves), self.best, x, self.nodes)

    def _add(self, low: np.ndarray, high: np.ndarray) -> None:
        self.nodes += 1
        if self.nodes > self.node_limit:
            raise NodeLimit(
                f"the tree has more than {self.node_limit} nodes; raise node_limit, or use "
                "method='fixed', which leaves the search to HiGHS."
            )
        found = self.lp.solve(low, high)
        bound = np.inf if found is None else found.value
        heapq.heappush(self.waiting, (bound, self.nodes, low, high, found))

    def _visit(
        self, bound: float, low: np.ndarray, high: np.ndarray, found: Solution | None
    ) -> None:
        """Keep a box as a leaf, or split it."""
        if found is None:
            none = np.zeros(self.program.shape[0])
            self.leaves.append(Leaf(low, high, none, bound, None, False))
            return
        margin = self._margin() if np.isfinite(self.best) else 0.0
        split, integral = None, False
        if bound <= self.best + (margin if self.separate else -margin):
            split = _fractional(self.program, found.x)
            integral = split is None
        if integral:
            if bound < self.best:
                self.best, self.best_x = bound, found.x
            if self.separate:
                split = _movable(self.program, found, low, high, self._margin())
        if split is None:
            self.leaves.append(Leaf(low, high, found.y, bound, found.x, integral))
            return
        for part in _parts(found.x[split], low[split], high[split]):
            child_low, child_high = low.copy(), high.copy()
            child_low[split], child_high[split] = part
            self._add(child_low, child_high)

    def _margin(self) -> float:
        """By how much a value may exceed the best one and count as equal."""
        return self.tie * max(1.0, abs(self.best))


def _check_box(program: Program) -> None:
    whole = program.integer
    infinite = whole & ~(np.isfinite(program.lower) & np.isfinite(program.upper))
    if infinite.any():
        raise ValueError(
            f"integer variable {np.flatnonzero(infinite)[0]} has an infinite bound; "
            "branch and bound needs a finite box."
        )


def _fractional(program: Program, x: np.ndarray) -> int | None:
    """The integer variable that is farthest from an integer, None if all are integer."""
    away = np.where(program.integer, np.abs(x - np.round(x)), 0.0)
    worst = int(np.argmax(away)) if len(away) else 0
    return worst if len(away) and away[worst] > _SETTINGS.integrality else None


def _movable(
    program: Program, found: Solution, low: np.ndarray, high: np.ndarray, tie: float
) -> int | None:
    """An integer variable that isn't held by its box or by its reduced cost."""
    free = program.integer & (low < high) & (np.abs(found.reduced) <= tie)
    return int(np.argmax(free)) if free.any() else None


def _parts(x: float, low: float, high: float) -> list[tuple[float, float]]:
    """Intervals that partition the integers of one variable's range."""
    nearest = float(np.round(x))
    if abs(x - nearest) > _SETTINGS.integrality:
        return [(low, float(np.floor(x))), (float(np.ceil(x)), high)]
    parts = [(low, nearest - 1.0), (nearest, nearest), (nearest + 1.0, high)]
    return [(a, b) for a, b in parts if a <= b]


def _with_duals(program: Program, leaf: Leaf, target: float) -> Leaf:
    """Give a leaf without a point the duals of its elastic LP.

    Violations cost so much that the leaf's bound reaches the target; such a price
    exists because the leaf has no point.
    """
    if leaf.x is not None:
        return leaf
    m, n = program.shape
    box = program.with_bounds(leaf.lower, leaf.upper)
    eye = sp.identity(m, format="csr")
    elastic = replace(
        box,
        cost=np.concatenate([box.cost, np.zeros(2 * m)]),
        matrix=sp.csr_array(sp.hstack([box.matrix, eye, -eye])),
        lower=np.concatenate([box.lower, np.zeros(2 * m)]),
        upper=np.concatenate([box.upper, np.full(2 * m, np.inf)]),
        integer=np.zeros(n + 2 * m, dtype=bool),
    )
    lp = Relaxed(elastic)
    price = _SETTINGS.price * max(1.0, float(np.abs(program.cost).max(initial=0.0)))
    for _ in range(_SETTINGS.prices):
        found = lp.minimize(np.concatenate([box.cost, np.full(2 * m, price)]))
        if found is None:
            break
        if found.value >= target:
            return replace(leaf, y=found.y)
        # The value is concave in the price and rises by the violation at the point, so
        # that the price that is needed is at least this.
        violation = max(float(found.x[n:].sum()), 1e-12)
        needed = price + (target - found.value) / violation
        price = max(needed, price * _SETTINGS.raised)
    raise SolverError(
        "a box without a point is so close to having one that no finite price of "
        "violation shows it; scale the program's rows."
    )


def optimal_point(
    program: Program, start: np.ndarray | None = None, time_limit: float | None = None
) -> np.ndarray:
    """An optimal point, integers rounded: by HiGHS, by :func:`branch_and_bound` if it fails.

    Raises
    ------
    Infeasible, Unbounded, SolverError
    TimeUp
        If HiGHS does not solve the program within the seconds of ``time_limit``.
    """
    try:
        return solve_mip(program, start, time_limit)
    except SolverError:
        return branch_and_bound(program).x


def optimum(
    program: Program, start: np.ndarray | None = None, time_limit: float | None = None
) -> Solution:
    """The linear program at the integers of an :func:`optimal_point`, integers exact."""
    x = optimal_point(program, start, time_limit)
    found = solve_lp(program.with_integers(x))
    point = found.x.copy()
    point[program.integer] = np.round(x[program.integer])
    return replace(found, x=point)
