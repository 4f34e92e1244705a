"""A first adversarial image: gradients, greedy walks, other images, linear regions.

Each way gives candidates; each candidate is moved to the optimum of its linear region,
then on to the next region, as long as it comes closer to the original.

Source: Tong, Cai, Serra, arXiv 2401.03451 (walks from region to region).
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from pyomo_relu.adversarial.decision import Decision
from pyomo_relu.adversarial.distances import DistanceProgram, distance
from pyomo_relu.base.deadline import Deadline
from pyomo_relu.network.gradient import value_and_gradient
from pyomo_relu.verification.attack import attack
from pyomo_relu.verification.margins import Margins
from pyomo_relu.verification.properties import Property, Unsafe
from pyomo_relu.verification.regions import Box

#: Step lengths of the greedy walks, as shares of a pixel's range.
STEPS = (1.0, 0.5, 0.25, 0.1)

#: A greedy walk changes at most this many pixels, counted by full ranges.
LONGEST = 400

#: How many of the given examples are tried, the nearest first.
EXAMPLES = 30

#: The walks from region to region end after so many without success.
PATIENCE = 10


def find_start(
    decision: Decision,
    norm: str,
    low: np.ndarray,
    high: np.ndarray,
    *,
    seconds: float = 10.0,
    seed: int = 0,
    examples: np.ndarray | None = None,
) -> np.ndarray | None:
    """The closest image that obeys the rule, of all that were found in the time.

    Parameters
    ----------
    decision : Decision
    norm : {'l1', 'linf', 'l0'}
    low, high : (n_inputs,) arrays
    seconds : float
    seed : int
        Of the random starts.
    examples : (N, n_inputs) array, optional
        Other images: from those that obey the rule one walks to the original.
    """
    search = _Starts(decision, norm, low, high, time.perf_counter() + seconds)
    for x in search.candidates(seed, examples):
        search.offer(x)
        if search.late():
            break
    search.walk()
    return search.best


class _Starts:
    """One run of :func:`find_start`."""

    def __init__(self, decision, norm, low, high, deadline) -> None:
        self.decision, self.norm, self.deadline = decision, norm, deadline
        self.low, self.high, self.x0 = low, high, decision.original
        self.best: np.ndarray | None = None
        self.found: list[np.ndarray] = []

    def late(self) -> bool:
        return time.perf_counter() > self.deadline

    def wins(self, x: np.ndarray) -> bool:
        return self.decision.wins(x, self.decision.margin)

    def distance(self, x: np.ndarray) -> float:
        return distance(self.norm, self.x0, x)

    def offer(self, x: np.ndarray) -> None:
        """Keep an image that obeys the rule, pulled back towards the original."""
        if not self.wins(x):
            return
        x = self.pull_back(x)
        self.found.append(x)
        if self.best is None or self.distance(x) < self.distance(self.best):
            self.best = x

    # --------------------------------------------------------------------- candidates
    def candidates(self, seed: int, examples) -> Iterator[np.ndarray]:
        if self.norm != "linf":
            for step in STEPS if self.norm == "l1" else STEPS[:1]:
                yield self.greedy(step)
                if self.late():
                    return
        yield from self.gradients(seed)
        if examples is not None:
            x = np.clip(examples, self.low, self.high)
            y = self.decision.network.evaluate(x)
            x = x[self.decision.excess(y, self.decision.margin) <= 0]
            near = [self.distance(row) for row in x]
            yield from x[np.argsort(near, kind="stable")[:EXAMPLES]]

    def greedy(self, step: float) -> np.ndarray:
        """The pixel of the steepest slope first, each by one step, until the rule holds."""
        decision, x = self.decision, self.x0.copy()
        width = self.high - self.low
        for _ in range(int(LONGEST / step)):
            y = decision.network.evaluate(x[None])[0]
            value, weights = decision.slope(y, decision.margin)
            if value <= 0 or self.late():
                break
            _, g = value_and_gradient(decision.network, x[None], weights)
            g = -g[0]
            room = np.where(g > 0, self.high - x, x - self.low)
            room[room <= 1e-9 * width] = 0.0
            gain = abs(g) * (np.minimum(room, step * width) if self.norm == "l0" else 1.0)
            i = int(np.argmax(gain * (room > 0)))
            if room[i] <= 0 or g[i] == 0:
                break
            move = min(step * width[i], room[i])
            if self.norm == "l1":
                move = min(move, 1.001 * value / abs(g[i]) + 1e-6)
            x[i] = np.clip(x[i] + np.sign(g[i]) * move, self.low[i], self.high[i])
        return x

    def gradients(self, seed: int) -> Iterator[np.ndarray]:
        """Projected gradients within boxes of rising size around the original."""
        decision = self.decision
        sets = tuple(Unsafe(*decision.rows(w, decision.margin)) for w in decision.winners)
        margins = Margins(
            decision.network, Property(sets), Box(self.low.copy(), self.high.copy())
        )
        for radius in (0.02, 0.05, 0.1, 0.2, 0.5, 1.0):
            span = radius * (self.high - self.low)
            margins.region = Box(
                np.maximum(self.low, self.x0 - span), np.minimum(self.high, self.x0 + span)
            )
            points, values = attack(
                margins,
                range(len(sets)),
                restarts=4,
                steps=30,
                seed=seed,
                deadline=self.deadline,
                starts=self.x0[None],
            )
            good = values <= 0
            yield from points[good]
            if self.late() or (good.any() and self.norm != "l0"):
                return

    # -------------------------------------------------------------------- improvement
    def pull_back(self, x: np.ndarray) -> np.ndarray:
        """Halve the way to the original as often as the rule holds.

        In ``l0`` only changed pixels count: drop those that are not needed, instead.
        """
        return self.drop(x) if self.norm == "l0" else self.halve(x)

    def halve(self, x: np.ndarray) -> np.ndarray:
        good, bad = 1.0, 0.0
        for _ in range(20):
            middle = 0.5 * (good + bad)
            if self.wins(self.x0 + middle * (x - self.x0)):
                good = middle
            else:
                bad = middle
        near = self.x0 + good * (x - self.x0)
        near = np.minimum(np.maximum(near, np.minimum(x, self.x0)), np.maximum(x, self.x0))
        return near if self.wins(near) else x

    def drop(self, near: np.ndarray) -> np.ndarray:
        changed = np.argsort(abs(near - self.x0), kind="stable")
        changed = changed[near[changed] != self.x0[changed]]
        size = max(1, len(changed) // 4)
        while len(changed) and not self.late():
            for part in np.array_split(changed, max(1, len(changed) // size)):
                trial = near.copy()
                trial[part] = self.x0[part]
                if self.wins(trial):
                    near = trial
            if size == 1:
                break
            size = max(1, size // 2)
            changed = changed[near[changed] != self.x0[changed]]
        return near

    def walk(self) -> None:
        """From region to region by linear programs, from each image that was found."""
        if self.norm == "l0" or not self.found:
            return
        from pyomo_relu.heuristics.image import ModelImage
        from pyomo_relu.heuristics.region_walk import RegionSolver

        limit = Deadline(max(0.0, self.deadline - time.perf_counter()))
        solvers: dict[int, tuple] = {}
        failures = 0
        order = np.argsort([self.distance(x) for x in self.found], kind="stable")
        for k in order:
            if self.late() or failures >= PATIENCE:
                return
            failures += 1
            w = self.decision.winner(self.found[k])
            if w not in solvers:
                program = DistanceProgram(
                    self.decision, self.norm, self.low, self.high, None, [w],
                    {"bounds": "crown"},
                )  # fmt: skip
                image = ModelImage(program.model)
                solvers[w] = program, image, RegionSolver(image.problem), set()
            program, image, regions, seen = solvers[w]
            program.set_point(self.found[k])
            program.model.net.warm_start(self.found[k])
            point = image.present()
            if point is None:
                continue
            for region in regions.walk(point, limit, seen):
                if region.violation <= 1e-7:
                    image.write(region.point)
                    x = program.point()
                    if x is not None and self.decision.wins(x):
                        if self.best is None or self.distance(x) < self.distance(self.best):
                            self.best, failures = x, 0
