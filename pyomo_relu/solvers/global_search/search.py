"""The tree: best boxes first, many at a time.

One round takes the boxes with the least bounds, splits each, bounds all children in
one NumPy batch, tightens them by the incumbent and the rows, bounds the survivors by an
LP where the model has rows, gives boxes with few undecided neurons to a small MIP, and
offers what it met to the incumbent. A box goes only when a valid bound of it reaches
the incumbent less the gap.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import Executor

import numpy as np

from pyomo_relu.bounds.parallel import run_chunks
from pyomo_relu.bounds.pool import Parts, Pool, halves
from pyomo_relu.bounds.progress import Interruptible
from pyomo_relu.solvers.global_search.branching import (
    choose_input,
    input_scores,
    most_fractional,
)
from pyomo_relu.solvers.global_search.lp import BoxLP
from pyomo_relu.solvers.global_search.mip import BoxMIP
from pyomo_relu.solvers.global_search.node_bounds import (
    NodeBounds,
    Planes,
    bound_chunk,
    stack,
)
from pyomo_relu.solvers.global_search.problem import Problem
from pyomo_relu.solvers.global_search.rows import DriverRows, needed_sides
from pyomo_relu.solvers.global_search.state import Limits, Stepped, Tree
from pyomo_relu.solvers.global_search.tighten import tighten_boxes

#: Boxes of one NumPy batch; fixed, so that results don't depend on the executor.
CHUNK = 256
#: Up to so many inputs a box with more undecided neurons is split on, not left to a MIP.
LEAVES = {3: 5, 6: 8}


class Search(Stepped):
    """Branch and bound on boxes of one problem."""

    def __init__(
        self,
        problem: Problem,
        limits: Limits,
        executor: Executor | None = None,
        report: Callable[[Tree, str], object] | None = None,
    ) -> None:
        super().__init__(problem, limits, report)
        self.executor = executor
        self.n = problem.n
        later = np.arange(len(problem.columns)) >= problem.n + problem.q
        open_ = problem.lower < problem.upper
        self.whole = np.flatnonzero(problem.integer & later & open_)
        self.sides, self.side_weights = needed_sides(problem)
        # Worth it where one plane decides; with rows, several share the work of an LP.
        steps = limits.slope_steps if problem.is_box else 0
        assert problem.network is not None
        self.bounder = NodeBounds(problem.network, self.sides, steps=steps)
        self.lp = None if problem.is_box else BoxLP(problem, self.sides)
        rest = slice(problem.n + problem.q, None)
        self.lp_needed = bool((problem.lower[rest] < problem.upper[rest]).any())
        self.lp_use, self._skipped, self._closest = 1.0, 0, math.inf
        self.pool = Pool(
            lower=self.n + len(self.whole),
            upper=self.n + len(self.whole),
            stored=2 * self.bounder.width,
            dim=None,
            point=None,
        )
        self.rows = DriverRows(problem, self.sides)
        # With few inputs a box is split sooner than a MIP is solved.
        few = [k for n, k in LEAVES.items() if problem.is_box and problem.n <= n]
        self.leaf_neurons = min([limits.leaf_neurons, *few])

    @property
    def bound(self) -> float:
        """A valid lower bound of the cost."""
        return min(self.pool.bound, self.incumbent.cost)

    @property
    def open_boxes(self) -> int:
        """Boxes that are neither pruned nor split."""
        return len(self.pool)

    # -------------------------------------------------------------------------- run
    def begin(self) -> None:
        """Bound the whole box."""
        p = self.problem
        if p.is_box:
            self.incumbent.search_box()
        low = np.concatenate([p.lower[: self.n], p.lower[self.whole]])[None]
        high = np.concatenate([p.upper[: self.n], p.upper[self.whole]])[None]
        self._add(low, high, self.bounder.start(), np.array([-math.inf]))
        self.pool.begin()

    def step(self) -> None:
        """Prune by the incumbent, then split the boxes with the least bounds."""
        with self.pool.round(self.limits.batch_size, self.cutoff) as boxes:
            if len(boxes["bound"]):
                self._split(boxes)

    def neurons(self) -> int:
        """How many neurons are undecided over the whole box."""
        low, high = self.problem.box
        lows, highs = self.bounder.arrays(low[None], high[None], self.bounder.start())
        return int(self.bounder.unstable(lows, highs, 1)[0])

    def _split(self, boxes: Parts) -> None:
        dim = boxes["dim"].astype(int)
        whole = np.append(self.problem.integer[: self.n], np.ones(len(self.whole), bool))
        lower, upper = halves(
            boxes["lower"], boxes["upper"], dim, boxes["point"], whole[dim]
        )
        stored, bound = (np.concatenate([boxes[k]] * 2) for k in ("stored", "bound"))
        self._add(lower, upper, stored, bound)

    # ------------------------------------------------------------------------ boxes
    def _planes(self, lower, upper, stored) -> Planes:
        n = len(lower)
        stored = np.broadcast_to(stored, (n, stored.shape[1]))
        spans = [slice(a, a + CHUNK) for a in range(0, n, CHUNK)]
        if self.executor is None or len(spans) == 1:
            return stack([self.bounder(lower[s], upper[s], stored[s]) for s in spans])
        clock = Interruptible()
        chunks = [(lower[s], upper[s], stored[s]) for s in spans]
        found = dict(
            run_chunks(
                bound_chunk, self.bounder.network, self.bounder.recipe, chunks,
                self.executor, clock, "boxes",
            )
        )  # fmt: skip
        if clock.keyboard:
            raise KeyboardInterrupt
        return stack([found[k] for k in range(len(chunks))])

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
        self.pool.close(bound[~empty & ~keep])
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
            self._relax(self.lp, lower, upper, planes, bound, dim, point, alive)
        done = (planes.unstable <= self.leaf_neurons) | (dim < 0)
        for i in np.flatnonzero(alive & done):
            if self._out_of_limits():
                break
            alive[i] = not self._leaf(
                lower[i], upper[i], planes.stored[i], bound, int(i), dim[i]
            )
        over = alive & (bound >= self.cutoff)
        self.pool.close(bound[over])
        alive &= ~over
        self.pool.push(
            lower=lower[alive], upper=upper[alive], stored=planes.stored[alive],
            bound=bound[alive], dim=dim[alive], point=point[alive],        )  # fmt: skip

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
        if math.isfinite(self.cutoff):
            # What is cut away costs at least this, and no more is known of it.
            self.pool.close(self.cutoff - 1e-9 * max(1.0, abs(self.cutoff)))
        lower[:, :n], upper[:, :n] = low, high
        return empty

    def _try_corners(self, lower, upper, planes: Planes) -> None:
        """Offer the corner where each box's best plane is least."""
        lower, upper = lower[:, : self.n], upper[:, : self.n]
        slopes, consts = self.rows.cost_planes(planes)
        least = np.where(slopes > 0, slopes * lower[:, None], slopes * upper[:, None])
        value = least.sum(axis=2) + consts
        best = np.argmax(value, axis=1)
        a = slopes[np.arange(len(best)), best]
        before = self.incumbent.cost
        self.incumbent.offer_inputs(np.where(a > 0, lower, upper))
        point = self.incumbent.point
        better = self.incumbent.cost < before - 1e-3 * max(1e-6, abs(before))
        if better and point is not None:
            self.incumbent.polish(point, time_limit=self.remaining)

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

    def _relax(
        self, lp: BoxLP, lower, upper, planes: Planes, bound, dim, point, alive
    ) -> None:
        """Solve the LP of each box; changes ``bound``, ``dim``, ``point``, ``alive``."""
        p, n = self.problem, self.n
        best: tuple[float, np.ndarray] | None = None
        for i in range(len(lower)):
            if bound[i] >= self.cutoff:
                self.pool.close(bound[i : i + 1])
                alive[i] = False
                continue
            if not self._lp_pays():
                continue
            if self._out_of_limits():
                return
            low, high = self._columns(lower[i], upper[i], planes, i)
            found = lp.solve(low, high, planes.slopes[i], planes.consts[i])
            self.counts.lps += 1
            before = bound[i]
            bound[i] = max(bound[i], found.bound)
            self._note_lp(before, bound[i])
            if found.bound == math.inf:
                alive[i] = False
                continue
            if bound[i] >= self.cutoff:
                self.pool.close(bound[i : i + 1])
                alive[i] = False
                continue
            if found.unbounded:
                # Networks are bounded on a box: it is the user's variables, everywhere.
                self.stopped = self.stopped or "unbounded"
                return
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
        self._improve(lower, upper, alive, best)

    def _lp_pays(self) -> bool:
        """Whether to solve the next box's LP.

        Where the user has other variables there is no bound without it. Elsewhere rows
        and objective have planes of their own, and the LP must show that combining them
        prunes boxes or lifts bounds; one in sixteen keeps looking.
        """
        if self.lp_needed or self.lp_use > 0.2:
            return True
        self._skipped += 1
        return self._skipped % 16 == 0

    def _note_lp(self, before: float, after: float) -> None:
        missing = self.cutoff - before
        gain = 1.0 if after >= self.cutoff or after == math.inf else 0.0
        if not gain and math.isfinite(before) and math.isfinite(missing) and missing > 0:
            gain = min(1.0, 2.0 * (after - before) / missing)
        self.lp_use += 0.05 * (gain - self.lp_use)

    def _improve(self, lower, upper, alive, best) -> None:
        """Look for a better point: middles of the boxes, then the best LP's region."""
        n, limit = self.n, max(self.remaining, 0.0)
        if not self.lp_needed and alive.any():
            middle = 0.5 * (lower[alive, :n] + upper[alive, :n])
            point, violation = self.incumbent.offer_many(middle)
            if violation < 0.9 * self._closest:
                self._closest = violation
                self.incumbent.polish(point, time_limit=limit)
                return
        if best is None:
            return
        k = self.counts.rounds
        often = self.lp_needed and self.incumbent.point is None
        if often or k < 10 or k % 10 == 0:
            self.incumbent.polish(best[1], time_limit=limit)

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
                self.pool.close(bound[i : i + 1])
            return True
        return False
