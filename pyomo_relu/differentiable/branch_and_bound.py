"""Best-first branch and bound that keeps what its leaves prove.

HiGHS doesn't show its tree. This one is for small programs: it returns every leaf with
its box and its duals, from which :class:`~pyomo_relu.differentiable.DualFunction` is
made, and it separates optima that tie, which tells whether the value has a kink.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, replace

import numpy as np

from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.differentiable.lp import (
    Infeasible,
    LinearProgram,
    Solution,
    SolverError,
    solve_lp,
)
from pyomo_relu.differentiable.program import Program

INTEGRALITY = 1e-7


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
        Of the relaxation; infinite if that has no point.
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
    program: Program, *, tie: float = 1e-7, node_limit: int = 20_000
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

    Raises
    ------
    ValueError
        If an integer variable has an infinite bound.
    Infeasible, NodeLimit
    """
    _check_box(program)
    lp = LinearProgram(program)
    lower, upper = program.lower.copy(), program.upper.copy()
    lower[program.integer] = np.ceil(lower[program.integer] - INTEGRALITY)
    upper[program.integer] = np.floor(upper[program.integer] + INTEGRALITY)
    if (lower > upper).any():
        raise Infeasible("an integer variable has no integer between its bounds.")
    waiting: list[tuple[float, int, np.ndarray, np.ndarray, Solution | None]] = []
    leaves: list[Leaf] = []
    best, best_x, nodes = np.inf, None, 0

    def add(low: np.ndarray, high: np.ndarray) -> None:
        nonlocal nodes
        nodes += 1
        if nodes > node_limit:
            raise NodeLimit(
                f"the tree has more than {node_limit} nodes; raise node_limit, or use "
                "method='fixed', which leaves the search to HiGHS."
            )
        found = lp.solve(low, high)
        bound = np.inf if found is None else found.value
        heapq.heappush(waiting, (bound, nodes, low, high, found))

    add(lower, upper)
    while waiting:
        bound, _, low, high, found = heapq.heappop(waiting)
        if found is None:
            leaves.append(Leaf(low, high, np.zeros(program.shape[0]), bound, None, False))
            continue
        margin = tie * max(1.0, abs(best)) if np.isfinite(best) else 0.0
        if bound > best + margin:
            leaves.append(Leaf(low, high, found.y, bound, found.x, False))
            continue
        split = _fractional(program, found.x)
        integral = split is None
        if integral:
            if bound < best:
                best, best_x = bound, found.x
            split = _movable(program, found, low, high, tie * max(1.0, abs(best)))
        if split is None:
            leaves.append(Leaf(low, high, found.y, bound, found.x, True))
            continue
        for part in _parts(found.x[split], low[split], high[split]):
            child_low, child_high = low.copy(), high.copy()
            child_low[split], child_high[split] = part
            add(child_low, child_high)
    if best_x is None:
        raise Infeasible("no point satisfies the constraints.")
    x = best_x.copy()
    x[program.integer] = np.round(x[program.integer])
    target = best + max(1.0, abs(best))
    kept = tuple(_with_duals(program, leaf, target) for leaf in leaves)
    return Tree(program, kept, best, x, nodes)


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
    return worst if len(away) and away[worst] > INTEGRALITY else None


def _movable(
    program: Program, found: Solution, low: np.ndarray, high: np.ndarray, tie: float
) -> int | None:
    """An integer variable that isn't held by its box or by its reduced cost."""
    free = program.integer & (low < high) & (np.abs(found.reduced) <= tie)
    return int(np.argmax(free)) if free.any() else None


def _parts(x: float, low: float, high: float) -> list[tuple[float, float]]:
    """Intervals that partition the integers of one variable's range."""
    nearest = float(np.round(x))
    if abs(x - nearest) > INTEGRALITY:
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
    price = 10.0 * max(1.0, float(np.abs(program.cost).max(initial=0.0)))
    for _ in range(12):
        elastic = replace(
            box,
            cost=np.concatenate([box.cost, np.full(2 * m, price)]),
            matrix=sp.csr_array(sp.hstack([box.matrix, eye, -eye])),
            lower=np.concatenate([box.lower, np.zeros(2 * m)]),
            upper=np.concatenate([box.upper, np.full(2 * m, np.inf)]),
            integer=np.zeros(n + 2 * m, dtype=bool),
        )
        found = solve_lp(elastic)
        if found.value >= target:
            return replace(leaf, y=found.y)
        price *= 10.0
    raise SolverError(
        "a box without a point is so close to having one that no finite price of "
        "violation shows it; scale the program's rows."
    )
