"""The tree: best boxes first, many at a time.

One round takes the boxes with the least bounds, splits each, bounds all children in
one NumPy batch, tightens them by the incumbent and the rows, bounds the survivors by an
LP where the model has rows, gives boxes with few undecided neurons to a small MIP, and
offers what it met to the incumbent. A box goes only when a valid bound of it reaches
the incumbent less the gap.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field

import numpy as np

from pyomo_relu.solvers.global_search.boxes import BoxPool
from pyomo_relu.solvers.global_search.branching import (
    choose_input,
    input_scores,
    most_fractional,
)
from pyomo_relu.solvers.global_search.incumbent import Incumbent
from pyomo_relu.solvers.global_search.lp import BoxLP
from pyomo_relu.solvers.global_search.mip import BoxMIP
from pyomo_relu.solvers.global_search.node_bounds import NodeBounds, Planes, stack
from pyomo_relu.solvers.global_search.problem import Problem
from pyomo_relu.solvers.global_search.tighten import tighten_boxes

#: Boxes of one NumPy batch; fixed, so that results don't depend on the executor.
CHUNK = 256


@dataclass
class Limits:
    """When the search ends, and how it works.

    Attributes
    ----------
    rel_gap, abs_gap : float
    time_limit : float
        Seconds.
    node_limit : float
        Boxes bounded.
    batch_size : int
        Boxes split in a round.
    leaf_neurons : int
        A box with at most so many undecided neurons goes to a MIP.
    seed : int
    """

    rel_gap: float = 1e-4
    abs_gap: float = 1e-6
    time_limit: float = math.inf
    node_limit: float = math.inf
    batch_size: int = 128
    leaf_neurons: int = 12
    seed: int = 0
    hand_over: bool = True


@dataclass
class Counts:
    """What the search did."""

    boxes: int = 0
    rounds: int = 0
    lps: int = 0
    mips: int = 0
    seconds: dict[str, float] = field(default_factory=dict)


class Search:
    """Branch and bound on boxes of one problem.

    Attributes
    ----------
    incumbent : Incumbent
    counts : Counts
    stopped : str or None
        ``"time"``, ``"nodes"``, ``"interrupt"``, ``"callback"``; None while it runs and
        after a proof.
    """

    def __init__(
        self,
        problem: Problem,
        limits: Limits,
        executor: Executor | None = None,
        report: Callable[[Search, str], object] | None = None,
    ) -> None:
        self.problem, self.limits, self.executor = problem, limits, executor
        self.report = report
        self.begin = time.perf_counter()
        self.incumbent = Incumbent(problem, limits.seed)
        self.counts = Counts()
        self.stopped: str | None = None
        self.floor = math.inf  # least bound among the boxes that are done with
        self._current = math.inf  # least bound among the boxes of this round
        self.n = problem.n
        self.whole = np.flatnonzero(
            problem.integer & (np.arange(len(problem.columns)) >= problem.n + problem.q)
        )
        self.sides, self.side_weights = _sides(problem)
        self.bounder = (
            None if problem.network is None else NodeBounds(problem.network, self.sides)
        )
        self.lp = None if problem.is_box else BoxLP(problem, self.sides)
        self.pool = BoxPool(
            lower=self.n + len(self.whole),
            upper=self.n + len(self.whole),
            stored=0 if self.bounder is None else 2 * self.bounder.width,
            dim=0,
            point=0,
            unstable=0,
        )
        self.rows = _DriverRows(problem, self.sides)

    # ------------------------------------------------------------------------ state
    @property
    def bound(self) -> float:
        """A valid lower bound of the cost."""
        least = min(self.floor, self._current, self.incumbent.cost)
        if len(self.pool):
            least = min(least, float(self.pool.bounds.min()))
        return least

    @property
    def cutoff(self) -> float:
        """A box whose bound reaches this is done with."""
        u = self.incumbent.cost
        if not math.isfinite(u):
            return math.inf
        user = abs(self.problem.user_objective(u))
        return u - max(self.limits.abs_gap, self.limits.rel_gap * user)

    @property
    def elapsed(self) -> float:
        """Seconds since the search began."""
        return time.perf_counter() - self.begin

    @property
    def remaining(self) -> float:
        """Seconds left."""
        return self.limits.time_limit - self.elapsed

    def _out_of_limits(self) -> bool:
        if self.stopped is None and self.remaining <= 0:
            self.stopped = "time"
        if self.stopped is None and self.counts.boxes >= self.limits.node_limit:
            self.stopped = "nodes"
        return self.stopped is not None

    def _tell(self, kind: str) -> None:
        if self.report is not None and self.report(self, kind):
            self.stopped = self.stopped or "callback"

    # -------------------------------------------------------------------------- run
    def run(self) -> None:
        """Search until the gap is closed or a limit is met."""
        self.incumbent.on_improve = lambda: self._tell("incumbent")
        p = self.problem
        try:
            if p.network is None:
                self._mip_only()
                return
            if p.is_box:
                self.incumbent.search_box()
            low = np.concatenate([p.lower[: self.n], p.lower[self.whole]])[None]
            high = np.concatenate([p.upper[: self.n], p.upper[self.whole]])[None]
            self._current = -math.inf
            self._add(low, high, self.bounder.start(), np.array([-math.inf]))
            self._current = math.inf
            self._tell("log")
            while len(self.pool) and not self._out_of_limits():
                self.floor = min(self.floor, self.pool.prune(self.cutoff))
                if not len(self.pool):
                    break
                self._round()
                self.counts.rounds += 1
                self._tell("log")
        except KeyboardInterrupt:
            self.stopped = "interrupt"

    def _mip_only(self) -> None:
        """A model without a network that depends on a variable is a plain MIP."""
        p = self.problem
        answer = BoxMIP(p, p.lower, p.upper, [], []).solve(
            time_limit=self.remaining, relative=self.limits.rel_gap, gap=self.limits.abs_gap
        )
        if answer.point is not None:
            self.incumbent.offer(answer.point)
        self.floor = answer.bound
        if not answer.solved:
            self.stopped = "time"

    def _round(self) -> None:
        boxes = self.pool.take(self.limits.batch_size)
        self._current = float(boxes["bound"].min())
        dim, point = boxes["dim"].astype(int), boxes["point"]
        each = np.arange(len(dim))
        left, right = boxes["upper"].copy(), boxes["lower"].copy()
        left[each, dim] = point
        integer = np.concatenate(
            [self.problem.integer[: self.n], np.ones(len(self.whole), bool)]
        )
        right[each, dim] = np.where(integer[dim], point + 1.0, point)
        lower = np.concatenate([boxes["lower"], right])
        upper = np.concatenate([left, boxes["upper"]])
        twice = lambda a: np.concatenate([a, a])  # noqa: E731
        self._add(lower, upper, twice(boxes["stored"]), twice(boxes["bound"]))
        self._current = math.inf

    # ------------------------------------------------------------------------ boxes
    def _planes(self, lower, upper, stored) -> Planes:
        n = len(lower)
        stored = np.broadcast_to(stored, (n, stored.shape[1]))
        spans = [slice(a, a + CHUNK) for a in range(0, n, CHUNK)]
        if self.executor is None or len(spans) == 1:
            parts = [self.bounder(lower[s], upper[s], stored[s]) for s in spans]
        else:
            tasks = [
                self.executor.submit(self.bounder, lower[s], upper[s], stored[s])
                for s in spans
            ]
            parts = [t.result() for t in tasks]
        return stack(parts)

    def _add(self, lower, upper, stored, parent) -> None:
        """Bound boxes, and keep those that may hold something better."""
        n = self.n
        self.counts.boxes += len(lower)
        planes = self._planes(lower[:, :n], upper[:, :n], stored)
        empty = self._tighten(lower, upper, planes)
        bound = np.maximum(parent, self._cheap_bound(lower, upper, planes))
        if self.problem.is_box:
            self._try_corners(lower, upper, planes)
        keep = ~empty & (bound < self.cutoff)
        self._close(bound[~empty & ~keep])
        lower, upper, bound = lower[keep], upper[keep], bound[keep]
        planes = planes.take(keep)
        if not len(lower):
            return
        weights = np.broadcast_to(self.side_weights, planes.low.shape)
        scores = input_scores(lower[:, :n], upper[:, :n], planes.steep, weights)
        dim, point = choose_input(
            lower[:, :n], upper[:, :n], scores, self.problem.integer[:n]
        )
        alive = np.ones(len(lower), dtype=bool)
        if self.lp is not None:
            self._relax(lower, upper, planes, bound, dim, point, alive)
        done = (planes.unstable <= self.limits.leaf_neurons) | (dim < 0)
        for i in np.flatnonzero(alive & done):
            if self._out_of_limits():
                break
            alive[i] = not self._leaf(
                lower[i], upper[i], planes.stored[i], bound, i, dim[i]
            )
        over = alive & (bound >= self.cutoff)
        self._close(bound[over])
        alive &= ~over
        self.pool.push(
            lower=lower[alive], upper=upper[alive], stored=planes.stored[alive],
            bound=bound[alive], dim=dim[alive], point=point[alive],
            unstable=planes.unstable[alive],
        )  # fmt: skip

    def _close(self, bounds: np.ndarray) -> None:
        if len(bounds):
            self.floor = min(self.floor, float(bounds.min()))

    def _cheap_bound(self, lower, upper, planes: Planes) -> np.ndarray:
        """The objective's bound from its own planes and the columns' bounds."""
        return self.rows.cost_bound(lower[:, : self.n], upper[:, : self.n], planes)

    def _tighten(self, lower, upper, planes: Planes) -> np.ndarray:
        """Shrink boxes in place by the rows and the incumbent; which are empty."""
        a, b = self.rows.inequalities(planes, self.cutoff)
        if a is None:
            return np.zeros(len(lower), dtype=bool)
        n = self.n
        low, high = lower[:, :n].copy(), upper[:, :n].copy()
        empty = tighten_boxes(low, high, a, b, self.problem.integer[:n])
        lower[:, :n], upper[:, :n] = low, high
        return empty

    def _try_corners(self, lower, upper, planes: Planes) -> None:
        """Offer the corner where each box's best plane is least."""
        slopes, consts = self.rows.cost_planes(planes)
        least = np.where(slopes > 0, slopes * lower[:, None], slopes * upper[:, None])
        value = least.sum(axis=2) + consts
        best = np.argmax(value, axis=1)
        a = slopes[np.arange(len(best)), best]
        before = self.incumbent.cost
        self.incumbent.offer_inputs(np.where(a > 0, lower, upper))
        if self.incumbent.cost < before - 1e-3 * max(1e-6, abs(before)):
            self.incumbent.polish(self.incumbent.point, time_limit=self.remaining)

    def _columns(self, lower, upper, planes: Planes, i: int):
        """Bounds of all columns for one box."""
        p, n = self.problem, self.n
        low, high = p.lower.copy(), p.upper.copy()
        low[:n], high[:n] = lower[:n], upper[:n]
        low[self.whole], high[self.whole] = lower[n:], upper[n:]
        for k, (query, sign) in enumerate(self.sides):
            if query < p.q:
                j, value = n + query, float(planes.low[i, k])
                if sign > 0:
                    low[j] = max(low[j], min(value, high[j]))
                else:
                    high[j] = min(high[j], max(-value, low[j]))
        return low, high

    def _relax(self, lower, upper, planes: Planes, bound, dim, point, alive) -> None:
        """Solve the LP of each box; changes ``bound``, ``dim``, ``point``, ``alive``."""
        p, n = self.problem, self.n
        best: tuple[float, np.ndarray] | None = None
        for i in range(len(lower)):
            if bound[i] >= self.cutoff:
                self._close(bound[i : i + 1])
                alive[i] = False
                continue
            if self._out_of_limits():
                return
            low, high = self._columns(lower[i], upper[i], planes, i)
            found = self.lp.solve(low, high, planes.slopes[i], planes.consts[i])
            self.counts.lps += 1
            bound[i] = max(bound[i], found.bound)
            if found.bound == math.inf:
                alive[i] = False
                continue
            if bound[i] >= self.cutoff:
                self._close(bound[i : i + 1])
                alive[i] = False
                continue
            if found.point is None:
                continue
            z = found.point
            self.incumbent.offer(z)
            if best is None or bound[i] < best[0]:
                best = bound[i], z
            j = most_fractional(z[self.whole], np.ones(len(self.whole), dtype=bool))
            if j >= 0:
                dim[i], point[i] = n + j, math.floor(z[self.whole[j]])
                continue
            top = found.weights.max(initial=0.0)
            weights = 0.01 * self.side_weights
            if top > 0:
                weights = weights + found.weights / top
            scores = input_scores(
                lower[i : i + 1, :n], upper[i : i + 1, :n], planes.steep[i : i + 1], weights
            )
            d, at = choose_input(
                lower[i : i + 1, :n], upper[i : i + 1, :n], scores, p.integer[:n]
            )
            dim[i], point[i] = d[0], at[0]
        if best is not None and self._may_polish():
            self.incumbent.polish(best[1], time_limit=max(self.remaining, 0.0))

    def _may_polish(self) -> bool:
        """Often while there is no incumbent, then ever more rarely."""
        k = self.counts.rounds
        return self.incumbent.point is None or k < 10 or k % 10 == 0

    def _leaf(self, lower, upper, stored, bound, i: int, dim: int) -> bool:
        """Give a box to the MIP; whether it is done with. Changes ``bound[i]``."""
        p, n = self.problem, self.n
        low, high = p.lower.copy(), p.upper.copy()
        low[:n], high[:n] = lower[:n], upper[:n]
        low[self.whole], high[self.whole] = lower[n:], upper[n:]
        lows, highs = self.bounder.arrays(lower[None, :n], upper[None, :n], stored[None])
        mip = BoxMIP(p, low, high, [a[0] for a in lows], [a[0] for a in highs])
        gap = 0.1 * (self.incumbent.cost - self.cutoff) if self.incumbent.found else 0.0
        answer = mip.solve(self.cutoff, self.remaining, gap)
        self.counts.mips += 1
        bound[i] = max(bound[i], answer.bound)
        taken = answer.point is None or self.incumbent.offer(answer.point)
        if answer.solved and (taken or dim < 0):
            if math.isfinite(bound[i]):
                self._close(bound[i : i + 1])
            return True
        return False


def _sides(p: Problem) -> tuple[list[tuple[int, float]], np.ndarray]:
    """The sides of queries that the objective and the rows need, and their scale."""
    needed: dict[tuple[int, float], float] = {}

    def add(query: int, weight: float, scale: float) -> None:
        if query < 0 or weight == 0:
            return
        key = (query, math.copysign(1.0, weight))
        needed[key] = max(needed.get(key, 0.0), abs(weight) / scale)
        if query >= p.q:  # a combination: its parts may hold the bound as well
            for j in np.flatnonzero(p.queries[query]):
                add(int(j), weight * p.queries[query, j], scale)

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


class _DriverRows:
    """Rows and objective as inequalities in the drivers alone.

    The rest and, in the objective, what has no plane enter with the side of their
    bounds that is weakest; a row with an unbounded rest says nothing.
    """

    def __init__(self, p: Problem, sides) -> None:
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

    def cost_planes(self, planes: Planes) -> tuple[np.ndarray, np.ndarray]:
        """Planes below the cost: (N, R, n) slopes and (N, R) constants."""
        p, k = self.p, self.cost_side
        if k < 0:
            shape = planes.slopes.shape
            slopes = np.broadcast_to(p.cost[: self.n], (shape[0], 1, self.n))
            return slopes, np.full((shape[0], 1), self.cost_rest)
        w = abs(p.cost_weight)
        slopes = w * planes.slopes[:, :, k] + p.cost[: self.n]
        return slopes, w * planes.consts[:, :, k] + self.cost_rest

    def cost_bound(self, lower, upper, planes: Planes) -> np.ndarray:
        """The least cost over each box, rounded down."""
        slopes, consts = self.cost_planes(planes)
        if not np.isfinite(self.cost_rest):
            return np.full(len(lower), -math.inf)
        terms = np.where(slopes > 0, slopes * lower[:, None], slopes * upper[:, None])
        size = abs(terms).sum(axis=2) + abs(consts)
        return (terms.sum(axis=2) + consts - 1e-14 * (self.n + 8) * size).max(axis=1)

    def inequalities(self, planes: Planes, cutoff: float):
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
