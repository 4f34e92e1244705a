"""The best point so far, and the searches that improve it.

A point counts only after the networks themselves have been evaluated at it and every
row, bound and integrality of the user's model holds to ``INCUMBENT.feasible``.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from pyomo_relu.base.deadline import work_time
from pyomo_relu.bounds import crown_arrays
from pyomo_relu.network import Network, PiecewiseLinear
from pyomo_relu.network.closed_graph import closed_outputs
from pyomo_relu.network.gradient import backward
from pyomo_relu.presolve.problem import Problem
from pyomo_relu.solvers.global_search.mip import BoxMIP
from pyomo_relu.solvers.global_search.settings import INCUMBENT


class Incumbent:
    """The best feasible point of a problem.

    Attributes
    ----------
    cost : float
        The cost of the best point, infinite before there is one.
    point : (m,) array or None
    found : int
        How often it improved.
    improved_at : float
        When it last became clearly better, by
        :func:`~pyomo_relu.base.deadline.work_time`.
    """

    def __init__(self, problem: Problem, seed: int = 0) -> None:
        self.problem = problem
        self.rng = np.random.default_rng(seed)
        self.cost, self.found = math.inf, 0
        self.point: np.ndarray | None = None
        self.improved_at = work_time()
        self.on_improve: Callable[[], None] | None = None
        #: Asked within walks; true ends them.
        self.stop: Callable[[], bool] = bool
        self._searched = False
        self._ranges: list[list[np.ndarray]] | None = None
        network = problem.network
        self.has_jumps = network is not None and any(
            isinstance(node, PiecewiseLinear) and not node.is_continuous
            for node in network.nodes
        )

    # -------------------------------------------------------------------- acceptance
    def offer(self, z: np.ndarray) -> bool:
        """Take a point if, with its outputs evaluated anew, it is feasible and better.

        Returns whether it is feasible.
        """
        p, outputs = self.problem, slice(self.problem.n, self.problem.n + self.problem.q)
        found = np.clip(z, p.lower, p.upper)
        found[p.integer] = np.round(found[p.integer])
        p.grid.round(found)
        p.complete(found[None])
        candidates = [found]
        if self.has_jumps:
            # At a step the closed graph counts, as in every formulation.
            for y in self._other_outputs(found[: p.n]):
                candidates.append(found.copy())
                candidates[-1][outputs] = y
        for one in candidates:
            p.settle(one[None])
        feasible = [c for c in candidates if p.violation(c) <= INCUMBENT.feasible]
        if feasible:
            self._take(min(feasible, key=lambda c: float(p.cost @ c)))
        return bool(feasible)

    def _take(self, z: np.ndarray) -> None:
        cost = float(self.problem.cost @ z)
        if cost < self.cost:
            if cost < self.cost - INCUMBENT.clearly * max(1.0, abs(cost)):
                self.improved_at = work_time()
            self.cost, self.point = cost, z.copy()
            self.found += 1
            if self.on_improve is not None:
                self.on_improve()

    def _other_outputs(self, x: np.ndarray) -> np.ndarray:
        """Output columns (N, q) at drivers (n,), with steps that are near on other sides."""
        if self.problem.network is None:
            return np.zeros((0, self.problem.q))
        found = closed_outputs(self.problem.network, x, INCUMBENT.at_step)
        return found[1:, : self.problem.q]

    def offer_present(self) -> bool:
        """Offer the variables' present values, the middle of a box where there is none."""
        p = self.problem
        z = self._rest()
        for j, v in enumerate(p.columns):
            if v.value is not None:
                z[j] = float(v.value)
            elif np.isfinite(p.lower[j]) and np.isfinite(p.upper[j]):
                z[j] = 0.5 * (p.lower[j] + p.upper[j])
        return self.offer(z) or self.polish(z)

    def offer_inputs(self, x: np.ndarray) -> np.ndarray:
        """For a problem that is only a box: try drivers (N, n); returns their costs."""
        z = self._complete(x)
        costs = z @ self.problem.cost
        best = int(np.argmin(costs))
        if costs[best] < self.cost:
            self.offer(z[best])
        return costs

    def offer_many(self, x: np.ndarray) -> tuple[np.ndarray, float]:
        """For a problem without a free rest: try drivers (N, n).

        Returns the point that violates the rows least, and by how much.
        """
        p, z = self.problem, self._complete(x)
        activity = (p.matrix @ z.T).T
        worst = np.maximum(p.row_lower - activity, activity - p.row_upper)
        worst = worst.max(axis=1, initial=0.0)
        worst = np.maximum(worst, np.maximum(p.lower - z, z - p.upper).max(axis=1))
        costs = np.where(worst <= INCUMBENT.feasible, z @ p.cost, math.inf)
        best = int(np.argmin(costs))
        if costs[best] < self.cost:
            self.offer(z[best])
        least = int(np.argmin(worst))
        return z[least], float(worst[least])

    def _complete(self, x: np.ndarray) -> np.ndarray:
        """All columns (N, m) at drivers, with a rest that is fixed."""
        p = self.problem
        z = np.tile(self._rest(), (len(x), 1))
        z[:, : p.n] = np.where(p.integer[: p.n], np.round(x), x)
        z[:, p.n : p.n + p.q] = p.outputs(z[:, : p.n])
        return z

    def _rest(self) -> np.ndarray:
        """A point with the columns of a rest that is fixed."""
        p = self.problem
        return np.where(np.isfinite(p.lower), p.lower, 0.0)

    # ------------------------------------------------------------------- improvement
    def polish(
        self,
        z: np.ndarray,
        rounds: int = INCUMBENT.walk,
        time_limit: float = INCUMBENT.seconds,
    ) -> bool:
        """Optimize over the linear region around a point, then around the result.

        Each region is a MIP in the user's integers only. Returns whether a feasible
        point was met.
        """
        p, feasible, last = self.problem, False, math.inf
        if p.network is None:
            return False
        for _ in range(rounds):
            x = np.clip(z[: p.n], p.lower[: p.n], p.upper[: p.n])
            point = self.region(x, time_limit)
            if point is None or self.stop():
                feasible |= point is not None and self.offer(point)
                break
            feasible |= self.offer(point)
            cost = float(p.cost @ point)
            if not cost < last - INCUMBENT.gain * max(1.0, abs(cost)):
                break
            # A step over the border looks into the next region.
            z, last = point + INCUMBENT.over * (point - z), cost
        return feasible

    def region(self, x: np.ndarray, time_limit: float) -> np.ndarray | None:
        """The best point of the linear region around drivers ``x``."""
        p = self.problem
        assert p.network is not None
        if self._ranges is None:
            low, high = p.box
            found = crown_arrays(p.network, low[None], high[None], nodes=())
            self._ranges = [[a[0] for a in some] for some in found]
        pattern = [v[0] for v in p.network.activations(x[None])]
        lows, highs = self._ranges
        mip = BoxMIP(p, p.lower, p.upper, lows, highs, pattern)
        return mip.solve(time_limit=time_limit, stop=self.stop).point

    def search_box(self) -> None:
        """Multistart projected gradient descent, once, for a problem that is only a box."""
        p = self.problem
        if self._searched:
            return
        self._searched = True
        if p.network is None:
            self.offer_inputs(self._rest()[None, : p.n])
            return
        low, high = p.box
        x = low + self.rng.random((INCUMBENT.samples, p.n)) * (high - low)
        edge = self.rng.random(x.shape) < INCUMBENT.at_bound
        x = np.where(edge, np.where(self.rng.random(x.shape) < 0.5, low, high), x)
        costs = self.offer_inputs(x)
        x = x[np.argsort(costs, kind="stable")[: INCUMBENT.starts]]
        weights = np.zeros(p.n_queries)
        weights[: p.q] = p.cost[p.n : p.n + p.q]
        few = p.n <= INCUMBENT.few_inputs
        for k in range(INCUMBENT.few_steps if few else INCUMBENT.steps):
            length = INCUMBENT.first_step * INCUMBENT.shrink**k
            x = descend(p.network, x, weights, p.cost[: p.n], low, high, length)
            if (k + 1) % INCUMBENT.offered == 0:
                self.offer_inputs(x)
        if self.point is not None:
            self.polish(self.point)


def descend(
    network: Network,
    x: np.ndarray,
    weights: np.ndarray,
    linear: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    length: float,
) -> np.ndarray:
    """One step of projected gradient descent of some points within a box.

    Parameters
    ----------
    x : (N, n) array
    weights, linear : (n_outputs,), (n,) arrays
        What is descended: ``weights @ network(x) + linear @ x``.
    length : float
        The length of the step, as a share of the box.
    """
    width = high - low
    slope = (backward(network, network.activations(x), weights) + linear) * width
    norm = np.maximum(abs(slope).max(axis=1, keepdims=True), 1e-300)
    return np.clip(x - length * width * slope / norm, low, high)
