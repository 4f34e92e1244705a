"""A first adversarial image: gradients, greedy walks, other images, linear regions.

Each way gives candidates; each candidate is moved to the optimum of its linear region,
then on to the next region, as long as it comes closer to the original.

Source: Tong, Cai, Serra, arXiv 2401.03451 (walks from region to region).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

import numpy as np

from pyomo_relu.adversarial.decision import Decision
from pyomo_relu.adversarial.distance_program import DistanceProgram, distance
from pyomo_relu.adversarial.nearest_settings import NEAREST
from pyomo_relu.base.deadline import Deadline
from pyomo_relu.heuristics.image import ModelImage
from pyomo_relu.heuristics.region_walk import RegionSolver
from pyomo_relu.heuristics.start_settings import START
from pyomo_relu.network.gradient import value_and_gradient
from pyomo_relu.verification.attack import attack
from pyomo_relu.verification.input_region import Box
from pyomo_relu.verification.margins import Margins
from pyomo_relu.verification.properties import Property, Unsafe


def find_near_image(
    decision: Decision,
    norm: str,
    box: tuple[np.ndarray, np.ndarray],
    deadline: Deadline,
    seed: int = 0,
    examples: np.ndarray | None = None,
) -> np.ndarray | None:
    """The closest image that obeys the rule, of all that were found in the time.

    Of ``examples`` (N, n_inputs), other images, those that obey the rule are walked back
    to the original; ``seed`` is that of the random starts. Once there is an image, the
    search for others leaves the walk from region to region, which ``l0`` hasn't, its share
    of the time.
    """
    search = _NearImages(decision, norm, box, deadline)
    first = deadline if norm == "l0" else deadline.part(NEAREST.candidate_share)
    for x in search.candidates(seed, examples):
        search.offer(x)
        if deadline.expired() or (search.found and first.expired()):
            break
    search.walk()
    return search.best


class _NearImages:
    """One run of :func:`find_near_image`."""

    def __init__(
        self,
        decision: Decision,
        norm: str,
        box: tuple[np.ndarray, np.ndarray],
        deadline: Deadline,
    ) -> None:
        self.decision, self.norm, self.deadline = decision, norm, deadline
        (self.low, self.high), self.x0 = box, decision.original
        self.best: np.ndarray | None = None
        self.found: list[np.ndarray] = []

    def wins(self, x: np.ndarray) -> bool:
        return self.decision.wins(x, self.decision.margin)

    def distance(self, x: np.ndarray) -> float:
        return distance(self.norm, self.x0, x)

    def take(self, x: np.ndarray) -> bool:
        """Keep an image if it is the closest one."""
        closest = self.best is None or self.distance(x) < self.distance(self.best)
        if closest:
            self.best = x
        return closest

    def offer(self, x: np.ndarray) -> None:
        """Keep an image that obeys the rule, pulled back towards the original."""
        if self.wins(x):
            # In l0 only changed pixels count: those that are not needed are dropped.
            self.found.append(self.drop(x) if self.norm == "l0" else self.halve(x))
            self.take(self.found[-1])

    # --------------------------------------------------------------------- candidates
    def candidates(self, seed: int, examples: np.ndarray | None) -> Iterator[np.ndarray]:
        """Images that may obey the rule; the first one costs nothing but a look."""
        others = np.empty((0, len(self.x0)))
        if examples is not None:
            others = self.nearest_examples(examples)
        yield from others[:1]
        steps = {"l1": NEAREST.greedy_steps, "l0": NEAREST.greedy_steps[:1], "linf": ()}
        for step in steps[self.norm]:
            yield self.greedy(step)
            if self.deadline.expired():
                return
        yield from others[1:]
        yield from self.gradients(seed)

    def nearest_examples(self, examples: np.ndarray) -> np.ndarray:
        """Those of a data set that obey the rule, the nearest first."""
        x = np.clip(examples, self.low, self.high)
        y = self.decision.network.evaluate(x)
        x = x[self.decision.excess(y, self.decision.margin) <= 0]
        near = [self.distance(row) for row in x]
        return x[np.argsort(near, kind="stable")[: NEAREST.examples]]

    def greedy(self, step: float) -> np.ndarray:
        """The pixel of the steepest slope first, each by one step, until the rule holds.

        A walk that the steepest pixels move to and fro, on both sides of a bend, is given
        up.
        """
        decision, x = self.decision, self.x0.copy()
        width = self.high - self.low
        least, since = np.inf, 0
        for _ in range(int(NEAREST.longest_walk / step)):
            y = decision.network.evaluate(x[None])[0]
            value, weights = decision.slope(y, decision.margin)
            since = 0 if value < least else since + 1
            least = min(least, value)
            stuck = since >= NEAREST.greedy_patience
            if value <= 0 or stuck or self.deadline.expired():
                break
            g = -value_and_gradient(decision.network, x[None], weights)[1][0]
            room = np.where(g > 0, self.high - x, x - self.low)
            room[room <= 1e-9 * width] = 0.0
            gain = abs(g) * (np.minimum(room, step * width) if self.norm == "l0" else 1.0)
            i = int(np.argmax(gain * (room > 0)))
            if room[i] <= 0 or g[i] == 0:
                break
            move = min(step * width[i], room[i])
            if self.norm == "l1":  # no further than a little beyond the border
                move = min(move, 1.001 * value / abs(g[i]) + 1e-6)
            x[i] = np.clip(x[i] + np.sign(g[i]) * move, self.low[i], self.high[i])
        return x

    def gradients(self, seed: int) -> Iterator[np.ndarray]:
        """Projected gradients within boxes of rising size around the original."""
        decision = self.decision
        sets = tuple(Unsafe(*decision.rows(w, decision.margin)) for w in decision.winners)
        margins = Margins(decision.network, Property(sets), Box(self.low, self.high))
        for radius in NEAREST.boxes:
            span = radius * (self.high - self.low)
            margins.region = Box(
                np.maximum(self.low, self.x0 - span), np.minimum(self.high, self.x0 + span)
            )
            points, values = attack(
                margins,
                range(len(sets)),
                restarts=NEAREST.restarts,
                steps=NEAREST.steps,
                seed=seed,
                deadline=self.deadline,
                starts=self.x0[None],
            )
            good = values <= 0
            yield from points[good]
            if self.deadline.expired() or (good.any() and self.norm != "l0"):
                return

    # -------------------------------------------------------------------- improvement
    def halve(self, x: np.ndarray) -> np.ndarray:
        """Halve the way to the original as often as the rule holds."""
        good, bad = 1.0, 0.0
        for _ in range(NEAREST.pull_back):
            middle = 0.5 * (good + bad)
            if self.wins(self.x0 + middle * (x - self.x0)):
                good = middle
            else:
                bad = middle
        near = self.x0 + good * (x - self.x0)
        near = np.clip(near, np.minimum(x, self.x0), np.maximum(x, self.x0))
        return near if self.wins(near) else x

    def drop(self, near: np.ndarray) -> np.ndarray:
        """Undo changes that the rule doesn't need, the smallest first."""
        changed = np.argsort(abs(near - self.x0), kind="stable")
        changed = changed[near[changed] != self.x0[changed]]
        size = max(1, len(changed) // 4)
        while len(changed) and not self.deadline.expired():
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
        if self.norm == "l0":
            return
        walk_from, failures = self._walks(), 0
        for k in np.argsort([self.distance(x) for x in self.found], kind="stable"):
            if self.deadline.expired() or failures >= NEAREST.patience:
                return
            failures += 1
            for x in walk_from(self.found[k]):
                if self.decision.wins(x) and self.take(x):
                    failures = 0

    def _walks(self) -> Callable[[np.ndarray], Iterator[np.ndarray]]:
        """A function that walks from an image; programs are kept, one for each winner."""

        @cache
        def prepared(
            w: int,
        ) -> tuple[DistanceProgram, ModelImage, RegionSolver, set[bytes]]:
            block = {"bounds": "crown"}
            box = self.low, self.high
            program = DistanceProgram(self.decision, self.norm, *box, None, [w], block)
            image = ModelImage(program.model)
            return program, image, RegionSolver(image.problem), set()

        def walk_from(x: np.ndarray) -> Iterator[np.ndarray]:
            program, image, regions, seen = prepared(self.decision.winner(x))
            program.set_point(x)
            program.model.net.warm_start(x)
            here = image.present()
            if here is None:
                return
            for region in regions.walk(here, self.deadline, seen):
                if region.violation <= START.noise:
                    image.write(region.point)
                    found = program.point()
                    if found is not None:
                        yield found

        return walk_from
