r"""Several units that only rows connect: prices for the rows, cells for the units.

A tree on all inputs at once would multiply the units' cells. Instead each node asks for
the Lagrangian bound: with multipliers :math:`\pi` of the rows, each unit by itself
minimizes its reduced cost over its part of the node's box,

.. math:: L(\pi) = \pi b + \sum_u \min_{x_u} \{(c - \pi A)_u (x_u, f_u(x_u))\}
          + \min_r (c - \pi A)_r r ,

a lower bound for every :math:`\pi`, however it was found. The minima come from cells
with linear bounds, cut until they are tight, and cells serve all nodes. The multipliers
come from the master over points (Dantzig and Wolfe, 1960). What remains when both meet
is the price of convexity: the node is split where the units' mixtures are widest, on
the user's integers first. With few rows few units mix (Shapley and Folkman), so few
splits are needed.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pyomo_relu.base.deadline import TimeUp
from pyomo_relu.solvers.global_search.branching import NARROW, most_fractional
from pyomo_relu.solvers.global_search.master import Master, Mixture
from pyomo_relu.solvers.global_search.mip import BoxMIP
from pyomo_relu.solvers.global_search.problem import Problem
from pyomo_relu.solvers.global_search.state import Limits, Tree
from pyomo_relu.solvers.global_search.units import Unit, find_units

#: Rounds of pricing at a node.
PRICINGS = 60
#: A unit with less than this share of weight on other points counts as one point.
PURE = 1e-6
#: Random points of each unit to begin with.
SEEDS = 60


@dataclass(order=True)
class Node:
    """A box of all inputs and of the other columns."""

    bound: float
    number: int
    low: np.ndarray
    high: np.ndarray
    rest_low: np.ndarray
    rest_high: np.ndarray


class Decomposition(Tree):
    """Branch and price over the units of a problem."""

    def __init__(
        self,
        problem: Problem,
        limits: Limits,
        report: Callable[[Tree, str], object] | None = None,
        groups=None,
    ) -> None:
        super().__init__(problem, limits, report)
        groups = find_units(problem) if groups is None else groups
        self.units: list[Unit] = []
        for drivers, outputs in groups:
            if self.remaining <= 0:
                raise TimeUp
            self.units.append(Unit(problem, drivers, outputs, limits.leaf_neurons))
        self.master = Master(problem, self.units)
        self.others = self.master.others
        self.rest_integer = problem.integer[self.others]
        self.heap: list[Node] = []
        self._current = math.inf
        self._number = 0
        self._tries = 0

    @property
    def bound(self) -> float:
        """A valid lower bound of the cost."""
        least = min(self.floor, self._current, self.incumbent.cost)
        return min(least, self.heap[0].bound) if self.heap else least

    @property
    def open_boxes(self) -> int:
        """Nodes of the tree that are open."""
        return len(self.heap)

    def run(self) -> None:
        """Search until the gap is closed or a limit is met."""
        p = self.problem
        try:
            low, high = p.box
            self._current = -math.inf
            self._seed()
            self._push(-math.inf, low, high, p.lower[self.others], p.upper[self.others])
            while self.heap and not self._out_of_limits():
                node = heapq.heappop(self.heap)
                self._current = node.bound
                if node.bound >= self.cutoff:
                    self._close(node.bound)
                    continue
                self._work(node)
                self.counts.rounds += 1
                self._current = math.inf
                self._tell("log")
        except KeyboardInterrupt:
            self.stopped = "interrupt"
        self.counts.lps = self.master.solves
        self.counts.mips += sum(u.mips for u in self.units)

    def _seed(self) -> None:
        """Random points for the first masters, and the best choice among them."""
        rng, p = np.random.default_rng(self.limits.seed), self.problem
        for u in self.units:
            if self._out_of_limits():
                return
            u.add_points(u.low + rng.random((SEEDS, len(u.low))) * (u.high - u.low))
        rest_low, rest_high = p.lower[self.others], p.upper[self.others]
        points = [np.arange(len(u.x)) for u in self.units]
        found = self.master.choose(
            points, rest_low, rest_high, self.rest_integer, min(self.remaining, 2.0)
        )
        if found is not None:
            z = self.master.point(*found)
            self.incumbent.offer(z)
            self.incumbent.polish(z, time_limit=min(self.remaining, 10.0))

    def _push(self, bound, low, high, rest_low, rest_high) -> None:
        self._number += 1
        heapq.heappush(self.heap, Node(bound, self._number, low, high, rest_low, rest_high))

    def _close(self, bound: float) -> None:
        self.floor = min(self.floor, bound)

    # ------------------------------------------------------------------------ a node
    def _work(self, node: Node) -> None:
        mixture = self._price_out(node)
        if node.bound >= self.cutoff:
            if math.isfinite(node.bound):
                self._close(node.bound)
            return
        if self.stopped is not None or mixture is None:
            if self.stopped is None:
                self._finish(node)
            else:
                heapq.heappush(self.heap, node)
            return
        self._search(node, mixture)
        if node.bound >= self.cutoff:
            self._close(node.bound)
        else:
            self._branch(node, mixture)

    def _tolerance(self, node: Node) -> float:
        """How exact the node's bound is wanted: a share of what is left to prove."""
        u = self.incumbent.cost
        if not math.isfinite(u):
            return 1e-3 * max(1.0, abs(node.bound) if math.isfinite(node.bound) else 1.0)
        least = 0.2 * (u - self.cutoff)
        if not math.isfinite(node.bound):
            return max(least, 0.01 * max(1.0, abs(u)))
        return max(least, 0.05 * (self.cutoff - node.bound))

    def _price_out(self, node: Node, zero_cost: bool = False) -> Mixture | None:
        """Raise the node's bound until master and prices agree; the last mixture."""
        master, units = self.master, self.units
        points = []
        for u in units:
            low, high = node.low[u.drivers], node.high[u.drivers]
            mine = u.inside(low, high)
            if not len(mine):
                mine = u.add_points(0.5 * (low + high)[None])
            points.append(mine)
        mixture, best = None, -math.inf
        for step in range(PRICINGS):
            if self._out_of_limits():
                return mixture
            found = master.solve(points, node.rest_low, node.rest_high, zero_cost)
            if found is None:
                return mixture
            mixture = found
            duals = master.usable(found.duals)
            tolerance = self._tolerance(node) if not zero_cost else 1e-6
            bound = master.rest_bound(duals, node.rest_low, node.rest_high, zero_cost)
            new = False
            for k, u in enumerate(units):
                if self._out_of_limits():
                    return mixture
                low, high = node.low[u.drivers], node.high[u.drivers]
                g, v = master.prices(k, duals, zero_cost)
                before = u.boxes
                priced = u.price(g, v, low, high, tolerance / len(units))
                self.counts.boxes += u.boxes - before
                bound += priced.bound
                worth = found.convexity[k] - 0.1 * tolerance / len(units)
                if priced.x is not None and priced.value < worth:
                    points[k] = np.append(points[k], u.add_points(priced.x[None]))
                    new = True
            best = max(best, bound)
            if zero_cost:
                if best > 1e-9:
                    node.bound = math.inf  # no mixture, so no point, meets the rows
                    return mixture
            else:
                node.bound = max(node.bound, best)
                if node.bound >= self.cutoff:
                    return mixture
                if step == 0 and node.number == 1:
                    self._tell("log")
            if not new or found.value - best <= tolerance:
                break
        if not zero_cost and mixture is not None and mixture.missing > 1e-7:
            return self._price_out(node, zero_cost=True)
        return mixture

    # ---------------------------------------------------------------------- incumbents
    def _search(self, node: Node, mixture: Mixture) -> None:
        """Offer the mixture's main points, and sometimes a MIP's choice of points."""
        master = self.master
        chosen = [mine[int(np.argmax(w))] for mine, w in mixture.weights]
        first = self.incumbent.point is None
        pure = all(w.max() >= 1.0 - PURE for _, w in mixture.weights)
        z = master.point(chosen, mixture.rest)
        self.incumbent.offer(z)
        self._tries += 1
        if not (first or pure or self._tries <= 3 or self._tries % 8 == 0):
            return
        before = self.incumbent.cost
        points = [u.inside(node.low[u.drivers], node.high[u.drivers]) for u in self.units]
        found = master.choose(
            points, node.rest_low, node.rest_high, self.rest_integer,
            min(self.remaining, 5.0),
        )  # fmt: skip
        if found is not None:
            z = master.point(*found)
            self.incumbent.offer(z)
        if first or self.incumbent.cost < before or self._tries % 8 == 0:
            self.incumbent.polish(z, time_limit=min(self.remaining, 10.0))

    # ------------------------------------------------------------------------- branching
    def _branch(self, node: Node, mixture: Mixture) -> None:
        j = most_fractional(mixture.rest, self.rest_integer)
        if j >= 0:
            at = math.floor(mixture.rest[j])
            for side in (0, 1):
                low, high = node.rest_low.copy(), node.rest_high.copy()
                if side == 0:
                    high[j] = at
                else:
                    low[j] = at + 1.0
                self._push(node.bound, node.low, node.high, low, high)
            return
        place = self._widest(node, mixture)
        if place is None:
            self._finish(node)
            return
        j, at = place
        whole = self.problem.integer[j]
        for side in (0, 1):
            low, high = node.low.copy(), node.high.copy()
            if side == 0:
                high[j] = math.floor(at) if whole else at
            else:
                low[j] = math.floor(at) + 1.0 if whole else at
            self._push(node.bound, low, high, node.rest_low, node.rest_high)

    def _widest(self, node: Node, mixture: Mixture) -> tuple[int, float] | None:
        """The driver to split, of the unit whose mixture hides the most cost."""
        best, place = 0.0, None
        duals = self.master.usable(mixture.duals)
        for k, (u, (mine, w)) in enumerate(zip(self.units, mixture.weights)):
            used = w > PURE
            w, x, y = w[used] / w[used].sum(), u.x[mine[used]], u.y[mine[used]]
            mean = w @ x
            spread = np.sqrt(w @ (x - mean) ** 2)
            low, high = node.low[u.drivers], node.high[u.drivers]
            width = np.maximum(high - low, 1e-300)
            narrow = NARROW * np.maximum(1.0, np.maximum(abs(low), abs(high)))
            spread = np.where(high - low > narrow, spread, 0.0)
            if not spread.any():
                continue
            _, v = self.master.prices(k, duals, False)
            hidden = abs(float((u.evaluate(mean[None])[0] - w @ y) @ v))
            d = int(np.argmax(spread / width))
            score = hidden + 1e-9 * float(spread[d])
            if score > best:
                # Between the points, but never at an edge: both halves must shrink.
                at = min(max(mean[d], low[d] + 0.1 * width[d]), high[d] - 0.1 * width[d])
                best, place = score, (int(u.drivers[d]), float(at))
        if place is not None:
            return place
        # Pure points that still miss the bound: cells as narrow as they get, or a
        # tolerance; the widest input is split as long as there is one.
        width = node.high - node.low
        used = np.zeros(len(width), dtype=bool)
        used[np.concatenate([u.drivers for u in self.units])] = True
        size = np.maximum(1.0, np.maximum(abs(node.low), abs(node.high)))
        share = np.where(used & (width > NARROW * size), width / size, 0.0)
        j = int(np.argmax(share))
        return (j, 0.5 * float(node.low[j] + node.high[j])) if share[j] > 0 else None

    def _finish(self, node: Node) -> None:
        """A node that can't be split: a MIP decides what is left of it."""
        from pyomo_relu.bounds import crown_arrays

        p = self.problem
        assert p.network is not None
        lower, upper = p.lower.copy(), p.upper.copy()
        lower[: p.n], upper[: p.n] = node.low, node.high
        lower[self.others], upper[self.others] = node.rest_low, node.rest_high
        lows, highs = crown_arrays(p.network, lower[None, : p.n], upper[None, : p.n])
        mip = BoxMIP(p, lower, upper, [a[0] for a in lows], [a[0] for a in highs])
        answer = mip.solve(self.cutoff, self.remaining)
        self.counts.mips += 1
        if answer.point is not None:
            self.incumbent.offer(answer.point)
        node.bound = max(node.bound, answer.bound)
        if not answer.solved:
            self.stopped = self.stopped or answer.reason
            heapq.heappush(self.heap, node)
        elif math.isfinite(node.bound):
            self._close(node.bound)
