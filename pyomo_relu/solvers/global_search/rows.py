"""Which sides of the queries matter, and rows as inequalities in the drivers alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from pyomo_relu.bounds.box_bounds import SidePlanes
from pyomo_relu.presolve.problem import Problem


def needed_sides(p: Problem) -> tuple[list[tuple[int, float]], np.ndarray]:
    """The sides of queries that the objective and the rows need, and their scale."""
    needed: dict[tuple[int, float], float] = {}

    def add(query: int, weight: float, scale: float) -> None:
        if query < 0 or weight == 0:
            return
        key = (query, math.copysign(1.0, weight))
        needed[key] = max(needed.get(key, 0.0), abs(weight) / scale)
        if query >= p.q:  # a combination: its parts may hold the bound as well
            for j, a in zip(*p.query(query)):
                add(int(j), weight * float(a), scale)

    add(p.cost_query, p.cost_weight, 1.0)
    norms = np.sqrt(np.asarray(p.matrix.multiply(p.matrix).sum(axis=1)).reshape(-1))
    for i, (query, weight) in enumerate(zip(p.row_query, p.row_weight)):
        if np.isfinite(p.row_upper[i]):
            add(int(query), float(weight), max(norms[i], 1e-9))
        if np.isfinite(p.row_lower[i]):
            add(int(query), -float(weight), max(norms[i], 1e-9))
    for j in np.flatnonzero(p.bounded):
        add(int(j), 1.0, 1.0)
        add(int(j), -1.0, 1.0)
    if p.is_box and p.cost_query >= 0:
        key = (p.cost_query, math.copysign(1.0, p.cost_weight))
        needed = {key: 1.0}
    if not needed:
        needed = {(0, 1.0): 1.0}
    return list(needed), np.array(list(needed.values()))


class DriverRows:
    """Rows and objective as inequalities in the drivers alone.

    The rest and, in the objective, what has no plane enter with the side of their
    bounds that is weakest; a row with an unbounded rest says nothing.
    """

    def __init__(self, p: Problem, sides: Sequence[tuple[int, float]]) -> None:
        self.p, self.n = p, p.n
        index = {side: k for k, side in enumerate(sides)}
        n, q = p.n, p.q
        drivers = p.matrix[:, :n].toarray()
        rest = p.matrix[:, n + q :].toarray()
        low, high = p.lower[n + q :], p.upper[n + q :]
        self.entries: list[tuple[np.ndarray, int, float, float]] = []
        for i in range(len(p.row_lower)):
            for sign, side in ((1.0, p.row_upper[i]), (-1.0, -p.row_lower[i])):
                if not np.isfinite(side):
                    continue
                b = side - _least(sign * rest[i], low, high)
                if not np.isfinite(b):
                    continue
                weight = sign * p.row_weight[i]
                k = -1
                if p.row_query[i] >= 0:
                    k = index[int(p.row_query[i]), math.copysign(1.0, weight)]
                self.entries.append((sign * drivers[i], k, abs(weight), b))
        for j in np.flatnonzero(p.bounded):
            if np.isfinite(p.upper[n + j]):
                self.entries.append((np.zeros(n), index[int(j), 1.0], 1.0, p.upper[n + j]))
            if np.isfinite(p.lower[n + j]):
                self.entries.append(
                    (np.zeros(n), index[int(j), -1.0], 1.0, -p.lower[n + j])
                )
        self.cost_side = -1
        if p.cost_query >= 0:
            self.cost_side = index[p.cost_query, math.copysign(1.0, p.cost_weight)]
        self.cost_rest = _least(p.cost[n + q :], low, high)

    def cost_planes(self, planes: SidePlanes) -> tuple[np.ndarray, np.ndarray]:
        """Planes below the cost: (N, R, n) slopes and (N, R) constants."""
        p, k = self.p, self.cost_side
        if k < 0:
            shape = planes.slopes.shape
            slopes = np.broadcast_to(p.cost[: self.n], (shape[0], 1, self.n))
            return slopes, np.full((shape[0], 1), self.cost_rest)
        w = abs(p.cost_weight)
        slopes = w * planes.slopes[:, :, k] + p.cost[: self.n]
        return slopes, w * planes.consts[:, :, k] + self.cost_rest

    def cost_bound(
        self, lower: np.ndarray, upper: np.ndarray, planes: SidePlanes
    ) -> np.ndarray:
        """The least cost over each box, rounded down."""
        slopes, consts = self.cost_planes(planes)
        if not np.isfinite(self.cost_rest):
            return np.full(len(lower), -math.inf)
        terms = np.where(slopes > 0, slopes * lower[:, None], slopes * upper[:, None])
        size = abs(terms).sum(axis=2) + abs(consts)
        return (terms.sum(axis=2) + consts - 1e-14 * (self.n + 8) * size).max(axis=1)

    def inequalities(
        self, planes: SidePlanes, cutoff: float
    ) -> tuple[np.ndarray | None, np.ndarray | None]:
        """``a x <= b`` that every wanted point fulfils, (N, K, n) and (N, K)."""
        count, rules = planes.consts.shape[:2]
        a, b = [], []
        for drivers, k, weight, side in self.entries:
            if k < 0:
                a.append(np.broadcast_to(drivers, (count, 1, self.n)))
                b.append(np.full((count, 1), side))
            else:
                a.append(weight * planes.slopes[:, :, k] + drivers)
                b.append(side - weight * planes.consts[:, :, k])
        if math.isfinite(cutoff) and np.isfinite(self.cost_rest):
            slopes, consts = self.cost_planes(planes)
            a.append(slopes)
            b.append(cutoff - consts)
        if not a:
            return None, None
        return np.concatenate(a, axis=1), np.concatenate(b, axis=1)


def _least(coefs: np.ndarray, low: np.ndarray, high: np.ndarray) -> float:
    """The least value of ``coefs @ z`` over bounds."""
    used = coefs != 0
    coefs = coefs[used]
    return float(np.where(coefs > 0, coefs * low[used], coefs * high[used]).sum())
