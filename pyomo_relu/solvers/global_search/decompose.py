r"""Several subsystems that only rows connect: prices for the rows, cells for the subsystems.

Boxes of all inputs at once would multiply the subsystems' cells. Instead each box asks
for the Lagrangian bound: with multipliers :math:`\pi` of the rows, each subsystem by
itself minimizes its reduced cost over its part of the box,

.. math:: L(\pi) = \pi b + \sum_u \min_{x_u} \{(c - \pi A)_u (x_u, f_u(x_u))\}
          + \min_r (c - \pi A)_r r ,

a lower bound for every :math:`\pi`, however it was found. The minima come from cells
with linear bounds, cut until they are tight, and cells serve all boxes. The multipliers
come from the master over points (Dantzig and Wolfe, 1960). What remains when both meet
is the price of convexity: the box is split where the subsystems' mixtures are widest, on
the user's integers first. With few rows few subsystems mix (Shapley and Folkman), so few
splits are needed.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Executor

import numpy as np

from pyomo_relu.base.deadline import TimeUp
from pyomo_relu.bounds.pool import Pool, halves
from pyomo_relu.presolve.problem import Problem
from pyomo_relu.solvers.global_search.branching import most_fractional, narrowest
from pyomo_relu.solvers.global_search.cost_search import PoolSearch, Report
from pyomo_relu.solvers.global_search.curve_subsystem import make_subsystem
from pyomo_relu.solvers.global_search.limits import Limits
from pyomo_relu.solvers.global_search.master import Master, Mixture
from pyomo_relu.solvers.global_search.mip import BoxMIP, node_ranges
from pyomo_relu.solvers.global_search.settings import PRICES
from pyomo_relu.solvers.global_search.shared_pricing import SharedPricing
from pyomo_relu.solvers.global_search.subsystems import (
    Priced,
    Prices,
    Subsystem,
    find_subsystems,
    links_of,
)


class JointBox:
    """A box of all drivers and of the other columns, with its bound."""

    def __init__(self, lower: np.ndarray, upper: np.ndarray, bound: float, n: int) -> None:
        self.lower, self.upper, self.bound = lower, upper, bound
        self.low, self.high = lower[:n], upper[:n]
        self.rest_low, self.rest_high = lower[n:], upper[n:]

    def part(self, u: Subsystem) -> tuple[np.ndarray, np.ndarray]:
        """The box of a subsystem's drivers."""
        return self.low[u.drivers], self.high[u.drivers]


class Decomposition(PoolSearch):
    """Branch and price over the subsystems of a problem."""

    title = "prices"

    def __init__(
        self,
        problem: Problem,
        limits: Limits,
        report: Report | None = None,
        groups: Sequence[tuple[np.ndarray, np.ndarray]] | None = None,
        executor: Executor | None = None,
    ) -> None:
        super().__init__(problem, limits, report)
        self.executor = executor
        self._shared: SharedPricing | None = None
        groups = find_subsystems(problem) if groups is None else groups
        self.subsystems: list[Subsystem] = []
        for (drivers, outputs), links in zip(groups, links_of(problem, groups)):
            if self.deadline.expired():
                raise TimeUp
            self.subsystems.append(
                make_subsystem(problem, drivers, outputs, links, limits.leaf_neurons)
            )
            self.subsystems[-1].stop = self.poll
        self.master = Master(problem, self.subsystems)
        self.others = self.master.others
        self.rest_integer = problem.integer[self.others]
        self.integer = np.append(problem.integer[: problem.n], self.rest_integer)
        self.pool = Pool(lower=len(self.integer), upper=len(self.integer))
        self._tries = 0
        #: The work on a box that isn't done.
        self._working: Iterator[None] | None = None

    def begin(self) -> None:
        """Choose among random points; the whole box is open."""
        p, rng = self.problem, np.random.default_rng(self.limits.seed)
        lower, upper = (np.append(a[: p.n], a[self.others]) for a in (p.lower, p.upper))
        whole = JointBox(lower, upper, -math.inf, p.n)
        self._push(whole)
        self.pool.begin()
        for u in self.subsystems:
            if self._out_of_limits():
                return
            u.add_random_points(rng)
        z = self._choose(whole, PRICES.first_choice_seconds)
        if z is not None:
            self._walk(z)

    def run(self) -> None:
        """Search until the gap is closed or a limit is met."""
        super().run()
        self.counts.lps = self.master.solves
        self.counts.mips += sum(u.mips for u in self.subsystems)

    @property
    def open_boxes(self) -> int:
        """Boxes that are neither pruned nor split, and the one that is being priced."""
        return len(self.pool) + (self._working is not None)

    def round(self) -> None:
        """A part of the work on a box; with its end a round is counted and told."""
        if self._working is None:
            self._working = self._one_box()
        if next(self._working, self) is not self:
            if not self.poll():
                return
            for _ in self._working:  # ends at once, and the box keeps what was proved of it
                pass
        self._working = None
        super().round()

    def step(self) -> None:
        """Be done with what is pruned, after the work on a box."""
        self.pool.prune(self.cutoff)

    def _one_box(self) -> Iterator[None]:
        """Bound the box with the least bound, and split it; pauses between pricings.

        A box may take seconds where subsystems are large, and others wait for their turn.
        """
        with self.pool.round(1, self.cutoff) as some:
            if len(some["bound"]):
                lower, upper, bound = (some[k][0] for k in ("lower", "upper", "bound"))
                box = JointBox(lower, upper, float(bound), self.problem.n)
                yield from self._work(box)

    def _push(self, box: JointBox) -> None:
        bound = np.array([box.bound])
        self.pool.push(lower=box.lower[None], upper=box.upper[None], bound=bound)

    # ------------------------------------------------------------------------ bounds
    def _work(self, box: JointBox) -> Iterator[None]:
        mixture = yield from self._price_out(box)
        if box.bound < self.cutoff and self.stopped is None and mixture is not None:
            self._search(box, mixture)
        if box.bound >= self.cutoff:
            self.pool.close(box.bound)
        elif self.stopped is not None:
            self._push(box)
        elif mixture is None:
            self._finish(box)
        else:
            self._branch(box, mixture)

    def _tolerance(self, box: JointBox) -> float:
        """How exact the box's bound is wanted: a share of what is left to prove."""
        u, known = self.incumbent.cost, math.isfinite(box.bound)
        if not math.isfinite(u):
            return PRICES.of_bound * max(1.0, abs(box.bound) if known else 1.0)
        least = PRICES.of_gap * (u - self.cutoff)
        if not known:
            return max(least, PRICES.of_cost * max(1.0, abs(u)))
        return max(least, PRICES.of_missing * (self.cutoff - box.bound))

    def _price_out(
        self, box: JointBox, zero_cost: bool = False
    ) -> Generator[None, None, Mixture | None]:
        """Raise the box's bound until master and prices agree; the last mixture.

        Where the rows are missed, that alone is priced at last, with ``zero_cost``.
        """
        points = [self._points(u, box) for u in self.subsystems]
        mixture, best = None, -math.inf
        for step in range(PRICES.rounds):
            if self._out_of_limits():
                return mixture
            found = self.master.solve(points, box.rest_low, box.rest_high, zero_cost)
            if found is None:
                return mixture
            mixture = found
            tolerance = PRICES.missing_tolerance if zero_cost else self._tolerance(box)
            bound, new = yield from self._price_all(
                box, mixture, points, tolerance, zero_cost
            )
            if bound is None:
                return mixture
            best = max(best, bound)
            if self._raised(box, best, zero_cost):
                return mixture
            if step == self.counts.rounds == 0:
                self._tell("log")
            if not new or found.value - best <= tolerance:
                break
        if not zero_cost and mixture is not None and mixture.missing > PRICES.missed:
            return (yield from self._price_out(box, zero_cost=True))
        return mixture

    def _raised(self, box: JointBox, bound: float, zero_cost: bool) -> bool:
        """Raise a box's bound; whether the box is done with."""
        if not zero_cost:
            box.bound = max(box.bound, bound)
        elif bound > PRICES.infeasible:
            box.bound = math.inf  # no mixture, so no point, meets the rows
        return box.bound >= self.cutoff

    def _points(self, u: Subsystem, box: JointBox) -> np.ndarray:
        """Numbers of a subsystem's points in a box, its middle if there is none."""
        low, high = box.part(u)
        mine = u.inside(low, high)
        return mine if len(mine) else u.add_points(0.5 * (low + high)[None])

    def _price_all(
        self,
        box: JointBox,
        mixture: Mixture,
        points: list[np.ndarray],
        tolerance: float,
        zero_cost: bool,
    ) -> Generator[None, None, tuple[float | None, bool]]:
        """The bound that a mixture's prices prove, and whether points were added.

        The bound is None where the search has to end.
        """
        master, share, new = self.master, tolerance / len(self.subsystems), False
        duals = master.usable(mixture.duals)
        bound = master.rest_bound(duals, box.rest_low, box.rest_high, zero_cost)
        asked = [
            Prices(*master.prices(k, duals, zero_cost), *box.part(u))
            for k, u in enumerate(self.subsystems)
        ]
        answers = self._answers(asked, share)
        for k, u in enumerate(self.subsystems):
            if self._out_of_limits():
                return None, new
            if k:
                yield
            before = u.boxes
            priced = next(answers)
            if priced is None:
                return None, new
            self.counts.boxes += u.boxes - before
            bound += priced.bound
            worth = mixture.convexity[k] - PRICES.new * share
            if priced.x is not None and priced.value < worth:
                points[k] = np.append(points[k], u.add_points(priced.x[None]))
                new = True
        return bound, new

    def _answers(self, asked: list[Prices], share: float) -> Iterator[Priced | None]:
        """What each subsystem's pricing finds, one after another."""
        if self.executor is None:
            return (u.price(own, share) for u, own in zip(self.subsystems, asked))
        if self._shared is None:
            self._shared = SharedPricing(
                self.subsystems, self.executor, self.deadline, self.poll
            )
        return self._shared.price(asked, share)

    # ---------------------------------------------------------------------- incumbents
    def _choose(self, box: JointBox, seconds: float) -> np.ndarray | None:
        """Offer the best choice among the points in a box, by a MIP."""
        found = self.master.choose(
            [u.inside(*box.part(u)) for u in self.subsystems],
            box.rest_low, box.rest_high, self.rest_integer, min(self.remaining, seconds),
            self.poll,
        )  # fmt: skip
        if found is None:
            return None
        z = self.master.point(*found)
        self.incumbent.offer(z)
        return z

    def _walk(self, z: np.ndarray) -> None:
        seconds = min(self.remaining, PRICES.walk_seconds)
        self.incumbent.polish(z, time_limit=seconds)

    def _search(self, box: JointBox, mixture: Mixture) -> None:
        """Offer the mixture's main points, and sometimes a MIP's choice of points."""
        chosen = [mine[int(np.argmax(w))] for mine, w in mixture.weights]
        first = self.incumbent.point is None
        pure = all(w.max() >= 1.0 - PRICES.pure for _, w in mixture.weights)
        z = self.master.point(chosen, mixture.rest)
        self.incumbent.offer(z)
        self._tries += 1
        now_and_then = self._tries % PRICES.every_choice == 0
        if not (first or pure or now_and_then or self._tries <= PRICES.first_choices):
            return
        before = self.incumbent.cost
        found = self._choose(box, PRICES.choice_seconds)
        if first or now_and_then or self.incumbent.cost < before:
            self._walk(z if found is None else found)

    # ------------------------------------------------------------------------- branching
    def _branch(self, box: JointBox, mixture: Mixture) -> None:
        j = most_fractional(mixture.rest, self.rest_integer)
        if j >= 0:
            place: tuple[int, float] | None = self.problem.n + j, mixture.rest[j]
        else:
            place = self._widest(box, mixture) or self._any_wide(box)
        if place is None:
            self._finish(box)
            return
        axis, at = np.array([place[0]]), np.array([place[1]])
        whole = self.integer[axis]
        at = np.where(whole, np.floor(at), at)
        lower, upper = halves(box.lower[None], box.upper[None], axis, at, whole)
        left = ~self.problem.grid.shrink(lower, upper)
        bound = np.full(np.count_nonzero(left), box.bound)
        self.pool.push(lower=lower[left], upper=upper[left], bound=bound)

    def _widest(self, box: JointBox, mixture: Mixture) -> tuple[int, float] | None:
        """The driver to split, of the subsystem whose mixture hides the most cost."""
        best, place = 0.0, None
        duals = self.master.usable(mixture.duals)
        for k, (u, (mine, w)) in enumerate(zip(self.subsystems, mixture.weights)):
            used = w > PRICES.pure
            w, x, y = w[used] / w[used].sum(), u.x[mine[used]], u.y[mine[used]]
            mean = w @ x
            spread = np.sqrt(w @ (x - mean) ** 2)
            low, high = box.part(u)
            width = np.maximum(high - low, 1e-300)
            spread = np.where(high - low > narrowest(low, high), spread, 0.0)
            if not spread.any():
                continue
            _, v = self.master.prices(k, duals, False)
            hidden = abs(float((u.evaluate(mean[None])[0] - w @ y) @ v))
            d = int(np.argmax(spread / width))
            score = hidden + PRICES.by_spread * float(spread[d])
            if score > best:
                # Between the points, but never at an edge: both halves must shrink.
                inner = PRICES.inner * width[d]
                at = min(max(mean[d], low[d] + inner), high[d] - inner)
                best, place = score, (int(u.drivers[d]), float(at))
        return place

    def _any_wide(self, box: JointBox) -> tuple[int, float] | None:
        """The relatively widest driver, as long as there is one that can be split.

        For pure points that still miss the bound, by a tolerance, or because cells are
        as narrow as they get.
        """
        width = box.high - box.low
        used = np.zeros(len(width), dtype=bool)
        used[np.concatenate([u.drivers for u in self.subsystems])] = True
        size = np.maximum(1.0, np.maximum(abs(box.low), abs(box.high)))
        wide = used & (width > narrowest(box.low, box.high))
        share = np.where(wide, width / size, 0.0)
        j = int(np.argmax(share))
        return (j, 0.5 * float(box.low[j] + box.high[j])) if share[j] > 0 else None

    def _finish(self, box: JointBox) -> None:
        """A box that can't be split: a MIP decides what is left of it."""
        p = self.problem
        lower, upper = p.lower.copy(), p.upper.copy()
        lower[: p.n], upper[: p.n] = box.low, box.high
        lower[self.others], upper[self.others] = box.rest_low, box.rest_high
        mip = BoxMIP(p, lower, upper, *node_ranges(p, box.low, box.high))
        answer = mip.solve(self.cutoff, self.remaining)
        self.counts.mips += 1
        if answer.point is not None:
            self.incumbent.offer(answer.point)
        box.bound = max(box.bound, answer.bound)
        if answer.solved:
            self.pool.close(box.bound)
        else:
            self.stopped = self.stopped or answer.reason
            self._push(box)
