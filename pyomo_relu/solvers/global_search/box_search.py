"""Branch and bound on boxes of the inputs: the best ones first, many at a time.

One round takes the boxes with the least bounds, splits each, bounds all children in
one NumPy batch, tightens them by the incumbent and the rows, bounds the survivors by an
LP where the model has rows, gives boxes with few undecided neurons to a small MIP, and
offers what it met to the incumbent. A box goes only when a valid bound of it reaches
the incumbent less the gap.
"""

from __future__ import annotations

import math
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np

from pyomo_relu.bounds.box_bounds import (
    BoxBounds,
    SidePlanes,
    bound_chunk,
    stack,
)
from pyomo_relu.bounds.parallel import Crew
from pyomo_relu.bounds.pool import Parts, Pool, halves
from pyomo_relu.bounds.tighten import tighten_boxes
from pyomo_relu.presolve.problem import Problem
from pyomo_relu.solvers.global_search.branching import (
    choose_input,
    input_scores,
    most_fractional,
)
from pyomo_relu.solvers.global_search.cost_search import PoolSearch, Report
from pyomo_relu.solvers.global_search.limits import Limits
from pyomo_relu.solvers.global_search.lp import BoxLP, Relaxed
from pyomo_relu.solvers.global_search.mip import BoxMIP
from pyomo_relu.solvers.global_search.rows import DriverRows, needed_sides
from pyomo_relu.solvers.global_search.settings import BOXES


@dataclass
class _Children:
    """New boxes that may hold something better.

    Attributes
    ----------
    lower, upper : (N, k) arrays
        The sides of the inputs, then those of the user's other integers.
    planes : SidePlanes
        What the bounds of the networks say over each box.
    bound : (N,) array
        A lower bound of the cost over each box.
    dim, point : (N,) arrays
        The column that each box is split along, and where; a ``dim`` of -1 stands for a box
        in which no input is wide enough.
    alive : (N,) bool array
        Whether a box is still open; it isn't once its bound is the last word on it.
    """

    lower: np.ndarray
    upper: np.ndarray
    planes: SidePlanes
    bound: np.ndarray
    dim: np.ndarray
    point: np.ndarray
    alive: np.ndarray


class BoxSearch(PoolSearch):
    """Branch and bound on boxes of one problem."""

    title = "boxes"

    def __init__(
        self,
        problem: Problem,
        limits: Limits,
        executor: Executor | None = None,
        report: Report | None = None,
    ) -> None:
        super().__init__(problem, limits, report)
        p, self.executor, self.n = problem, executor, problem.n
        assert p.network is not None
        rest = np.arange(len(p.columns)) >= p.n + p.q
        free = rest & (p.lower < p.upper) & ~p.implied
        self.whole = np.flatnonzero(p.integer & free)
        self.integer = np.append(p.integer[: p.n], np.ones(len(self.whole), dtype=bool))
        self.sides, self.side_weights = needed_sides(p)
        # Better slopes are worth their time where one plane decides; where there are rows, an
        # LP combines several planes.
        steps = limits.slope_steps if p.is_box else 0
        self.bounder = BoxBounds(p.network, self.sides, steps=steps)
        self.lp = None if p.is_box else BoxLP(p, self.sides)
        self.lp_needed = bool(free.any())
        self.lp_use, self._skipped, self._closest = 1.0, 0, math.inf
        k, h = self.n + len(self.whole), self.bounder.inherited.width
        self.pool = Pool({"dim": int}, lower=k, upper=k, stored=2 * h, dim=None, point=None)
        self.rows = DriverRows(p, self.sides)
        few = [k for n, k in BOXES.leaves.items() if p.is_box and p.n <= n]
        self.leaf_neurons = min([limits.leaf_neurons, *few])
        if p.network.smooth_layers:
            self.leaf_neurons = -1  # a MIP only relaxes smooth units

    def neurons(self) -> int:
        """How many neurons are undecided over the whole box."""
        low, high = (a[None] for a in self.problem.box)
        ranges = self.bounder.arrays(low, high, self.bounder.inherited.start())
        return int(self.bounder.unstable(*ranges, 1)[0])

    # ----------------------------------------------------------------------- rounds
    def begin(self) -> None:
        """Bound the whole box."""
        p = self.problem
        if p.is_box:
            self.incumbent.search_box()
        low, high = (
            np.append(a[: self.n], a[self.whole])[None] for a in (p.lower, p.upper)
        )
        if not p.grid.shrink(low, high).any():
            self._add(low, high, self.bounder.inherited.start(), np.array([-math.inf]))
        self.pool.begin()

    def step(self) -> None:
        """Prune by the incumbent, then split the boxes with the least bounds."""
        with self.pool.round(self.limits.batch_size, self.cutoff) as boxes:
            if len(boxes["bound"]):
                self._split(boxes)

    def _split(self, boxes: Parts) -> None:
        dim = boxes["dim"]
        new = halves(boxes["lower"], boxes["upper"], dim, boxes["point"], self.integer[dim])
        some = ~self.problem.grid.shrink(*new)
        known = (np.concatenate([boxes[k]] * 2) for k in ("stored", "bound"))
        if some.any():
            self._add(*(a[some] for a in (*new, *known)))

    def _add(
        self, lower: np.ndarray, upper: np.ndarray, stored: np.ndarray, parent: np.ndarray
    ) -> None:
        """Bound boxes, and keep those that may hold something better."""
        n = self.n
        self.counts.boxes += len(lower)
        planes = self._planes(lower[:, :n], upper[:, :n], stored)
        empty = self._tighten(lower, upper, planes)
        own = self.rows.cost_bound(lower[:, :n], upper[:, :n], planes)
        bound = np.maximum(parent, own)
        if self.problem.is_box:
            self._try_corners(lower[:, :n], upper[:, :n], planes)
        keep = ~empty & (bound < self.cutoff)
        self.pool.close(bound[~empty & ~keep])
        if not keep.any():
            return
        lower, upper, planes = lower[keep], upper[keep], planes.take(keep)
        place = self._place(lower, upper, planes.steep, self.side_weights)
        new = _Children(
            lower, upper, planes, bound[keep], *place, np.ones(len(lower), dtype=bool)
        )
        if self.lp is not None:
            self._relax(self.lp, new)
        self._leaves(new)
        over = new.alive & (new.bound >= self.cutoff)
        self.pool.close(new.bound[over])
        left = new.alive & ~over
        self.pool.push(
            lower=new.lower[left], upper=new.upper[left], stored=planes.stored[left],
            bound=new.bound[left], dim=new.dim[left], point=new.point[left],
        )  # fmt: skip

    def _place(
        self, lower: np.ndarray, upper: np.ndarray, steep: np.ndarray, weights: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Which input each box is split along, and where."""
        lower, upper = lower[:, : self.n], upper[:, : self.n]
        scores = input_scores(lower, upper, steep, weights)
        return choose_input(lower, upper, scores, self.integer[: self.n])

    # ----------------------------------------------------------------------- planes
    def _planes(
        self, lower: np.ndarray, upper: np.ndarray, stored: np.ndarray
    ) -> SidePlanes:
        n, size = len(lower), BOXES.chunk
        stored = np.broadcast_to(stored, (n, stored.shape[1]))
        spans = [slice(a, a + size) for a in range(0, n, size)]
        chunks = [(lower[s], upper[s], stored[s]) for s in spans]
        if self.executor is None or len(spans) == 1:
            return stack([self.bounder(*chunk) for chunk in chunks])
        recipe = self.bounder.recipe
        crew = Crew(self.executor)
        return stack(
            crew.results(bound_chunk, self.bounder.network, recipe, chunks, "boxes")
        )

    def _tighten(
        self, lower: np.ndarray, upper: np.ndarray, planes: SidePlanes
    ) -> np.ndarray:
        """Shrink boxes in place by the rows and the incumbent; returns which are empty."""
        a, b = self.rows.inequalities(planes, self.cutoff)
        if a is None or b is None:
            return np.zeros(len(lower), dtype=bool)
        n = self.n
        empty = tighten_boxes(lower[:, :n], upper[:, :n], a, b, self.integer[:n])
        empty |= self.problem.grid.shrink(lower, upper)
        if math.isfinite(self.cutoff):
            # What is cut away costs at least this, and no more is known of it.
            self.pool.close(self.cutoff - BOXES.cut_margin * max(1.0, abs(self.cutoff)))
        return empty

    def _try_corners(
        self, lower: np.ndarray, upper: np.ndarray, planes: SidePlanes
    ) -> None:
        """Offer the corner where each box's best plane is least."""
        slopes, consts = self.rows.cost_planes(planes)
        least = np.where(slopes > 0, slopes * lower[:, None], slopes * upper[:, None])
        best = np.argmax(least.sum(axis=2) + consts, axis=1)
        a = slopes[np.arange(len(best)), best]
        before = self.incumbent.cost
        self.incumbent.offer_inputs(np.where(a > 0, lower, upper))
        point = self.incumbent.point
        if point is not None and self.gained(before):
            self.incumbent.polish(point, time_limit=self.remaining)

    # --------------------------------------------------------------- linear programs
    def _columns(
        self, lower: np.ndarray, upper: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The bounds of all columns of the problem for one box."""
        p, n = self.problem, self.n
        low, high = p.lower.copy(), p.upper.copy()
        low[:n], high[:n] = lower[:n], upper[:n]
        low[self.whole], high[self.whole] = lower[n:], upper[n:]
        return low, high

    def _relax(self, lp: BoxLP, new: _Children) -> None:
        """Solve the LP of each box, where that pays; changes ``new``."""
        best: tuple[float, np.ndarray] | None = None
        for i in range(len(new.bound)):
            if new.bound[i] >= self.cutoff:
                self._drop(new, i)
            elif self._lp_pays():
                if self._out_of_limits():
                    return
                point = self._relax_one(lp, new, i)
                if self.stopped is not None:
                    return
                if point is not None and (best is None or new.bound[i] < best[0]):
                    best = new.bound[i], point
        self._improve(new, None if best is None else best[1])

    def _drop(self, new: _Children, i: int) -> None:
        self.pool.close(new.bound[i])
        new.alive[i] = False

    def _relax_one(self, lp: BoxLP, new: _Children, i: int) -> np.ndarray | None:
        """Solve the LP of a box; returns its point if there is one and the box stays open."""
        low, high = self._columns(new.lower[i], new.upper[i])
        for k, (query, sign) in enumerate(self.sides):
            if query < self.problem.q:
                j, value = self.n + query, float(new.planes.low[i, k])
                if sign > 0:
                    low[j] = max(low[j], min(value, high[j]))
                else:
                    high[j] = min(high[j], max(-value, low[j]))
        found = lp.solve(low, high, new.planes.slopes[i], new.planes.consts[i])
        self.counts.lps += 1
        before = new.bound[i]
        new.bound[i] = max(before, found.bound)
        self._note_lp(before, new.bound[i])
        if found.bound == math.inf or new.bound[i] >= self.cutoff:
            self._drop(new, i)
            return None
        if found.unbounded:
            # Networks are bounded on a box, so it is the user's variables that are not, and
            # that in every box.
            self.stopped = self.stopped or "unbounded"
            return None
        if found.point is not None:
            self.incumbent.offer(found.point)
            self._place_by_lp(new, i, found, found.point)
        return found.point

    def _place_by_lp(
        self, new: _Children, i: int, found: Relaxed, point: np.ndarray
    ) -> None:
        """Split a box on a fractional integer, or on the input that moves the LP most."""
        values = point[self.whole]
        j = most_fractional(values, np.ones(len(values), dtype=bool))
        if j >= 0:
            new.dim[i], new.point[i] = self.n + j, math.floor(values[j])
            return
        top = found.weights.max(initial=0.0)
        weights = BOXES.side_weight * self.side_weights
        if top > 0:
            weights = weights + found.weights / top
        one = slice(i, i + 1)
        new.dim[one], new.point[one] = self._place(
            new.lower[one], new.upper[one], new.planes.steep[one], weights
        )

    def _lp_pays(self) -> bool:
        """Whether to solve the next box's LP.

        Where the user has other variables there is no bound without it. Elsewhere rows
        and objective have planes of their own, and the LP must show that combining them
        prunes boxes or lifts bounds.
        """
        if self.lp_needed or self.lp_use > BOXES.lp_worth:
            return True
        self._skipped += 1
        return self._skipped % BOXES.lp_look == 0

    def _note_lp(self, before: float, after: float) -> None:
        missing = self.cutoff - before
        gain = 1.0 if after >= self.cutoff or after == math.inf else 0.0
        if not gain and math.isfinite(before) and math.isfinite(missing) and missing > 0:
            gain = min(1.0, BOXES.lp_gain * (after - before) / missing)
        self.lp_use += BOXES.lp_memory * (gain - self.lp_use)

    def _improve(self, new: _Children, best: np.ndarray | None) -> None:
        """Look for a better point in the middles of the boxes, then from the best LP's point."""
        n, alive = self.n, new.alive
        if not self.lp_needed and alive.any():
            middle = 0.5 * (new.lower[alive, :n] + new.upper[alive, :n])
            point, violation = self.incumbent.offer_many(middle)
            if violation < BOXES.closer * self._closest:
                self._closest = violation
                self.incumbent.polish(point, time_limit=self.remaining)
                return
        k = self.counts.rounds
        often = self.lp_needed and self.incumbent.point is None
        if best is not None and (
            often or k < BOXES.first_walks or k % BOXES.every_walk == 0
        ):
            self.incumbent.polish(best, time_limit=self.remaining)

    # ------------------------------------------------------------------- small MIPs
    def _leaves(self, new: _Children) -> None:
        """Give boxes with few undecided neurons to a MIP, and those too narrow to split."""
        few = (new.planes.unstable <= self.leaf_neurons) | (new.dim < 0)
        for i in np.flatnonzero(new.alive & few):
            if self._out_of_limits():
                return
            new.alive[i] = not self._leaf(new, int(i))

    def _leaf(self, new: _Children, i: int) -> bool:
        """Solve the MIP of a box and raise its bound; returns whether the box is done with."""
        low, high = self._columns(new.lower[i], new.upper[i])
        one, n = slice(i, i + 1), self.n
        ranges = self.bounder.arrays(
            new.lower[one, :n], new.upper[one, :n], new.planes.stored[one]
        )
        mip = BoxMIP(self.problem, low, high, *([a[0] for a in side] for side in ranges))
        answer = mip.solve(self.cutoff, self.remaining, self.mip_gap)
        self.counts.mips += 1
        new.bound[i] = max(new.bound[i], answer.bound)
        taken = answer.point is None or self.incumbent.offer(answer.point)
        # Nothing more can be done with a box that is too narrow to split: whatever the MIP
        # says, its bound is the last word.
        done = (answer.solved and taken) or new.dim[i] < 0
        if done:
            self.pool.close(new.bound[i])
        return done
