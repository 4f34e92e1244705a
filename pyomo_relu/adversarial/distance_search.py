"""The closest image by branch and bound on the sides of neurons, without any program.

One :class:`~pyomo_relu.sides.tree.SideTree` for each class that may
win, with the distance as the bound of a subproblem; they share the best image. The points
where bounds are attained say in which linear regions images may be: the closest image of
a region is a small linear program.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from pyomo_relu.adversarial.decision import Decision
from pyomo_relu.adversarial.distances import distance
from pyomo_relu.bounds.progress import progress
from pyomo_relu.network import Network, PiecewiseLinear
from pyomo_relu.sides.distance_chain import NORMS, DistanceChain
from pyomo_relu.sides.tree import BATCH, SideTree

#: Subproblems that may only gain this share of the best distance are done with.
GAP = 2e-5

#: Share of the time that linear programs of regions may take.
REGION_SHARE = 0.15


class DistanceSearch:
    """One search; see :meth:`fits`.

    Parameters
    ----------
    decision : Decision
    norm : {'l1', 'linf'}
    lows, highs : sequences of (size,) arrays
        Bounds of every node for all images that are of interest.
    best : (n_inputs,) array or None
        An image that obeys the rule.
    radius : float, optional
        Nothing farther is looked at.

    Attributes
    ----------
    best : (n_inputs,) array or None
        Run through the network: it obeys the rule, the margin left out.
    """

    def __init__(
        self,
        decision: Decision,
        norm: str,
        lows: Sequence[np.ndarray],
        highs: Sequence[np.ndarray],
        best: np.ndarray | None = None,
        radius: float | None = None,
    ) -> None:
        self.decision, self.norm, self.best = decision, norm, best
        self.radius = np.inf if radius is None else radius
        self.network = decision.network
        self.sources = [
            n.source for n in self.network.nodes if isinstance(n, PiecewiseLinear)
        ]
        self.trees = []
        for w in decision.winners:
            rows, limits = decision.rows(w, decision.margin)
            chain = DistanceChain(
                self.network, lows, highs, decision.original, rows, limits, norm
            )
            self.trees.append(SideTree(chain, BATCH))
        self.seen: set[tuple[int, bytes]] = set()
        self.spent = 0.0

    @staticmethod
    def fits(network: Network, norm: str) -> bool:
        """Whether there are such bounds for a network and a norm."""
        return norm in NORMS and DistanceChain.fits(network)

    @property
    def length(self) -> float:
        """The distance of the best image."""
        if self.best is None:
            return np.inf
        return distance(self.norm, self.decision.original, self.best)

    @property
    def target(self) -> float:
        """What a subproblem's bound must reach."""
        return min(self.radius, self.length * (1.0 - GAP))

    @property
    def bound(self) -> float:
        """No image is closer; beyond the radius nothing is known."""
        return min(self.radius, self.length, *(t.bound for t in self.trees))

    @property
    def nodes(self) -> int:
        """Subproblems bounded."""
        return sum(t.nodes for t in self.trees)

    def run(self, deadline: float) -> bool:
        """Search until a time of ``time.perf_counter()``; whether it was completed."""
        begin, shown = time.perf_counter(), 0
        with progress(0, "splitting neurons", "node") as bar:
            for k, tree in enumerate(self.trees):
                self._look(k, tree.start(self.target), begin)
            while True:
                bar.update(self.nodes - shown)
                shown = self.nodes
                left = [k for k, t in enumerate(self.trees) if len(t)]
                if not left:
                    return True
                if time.perf_counter() > deadline:
                    return False
                k = min(left, key=lambda j: self.trees[j].bound)
                self._look(k, self.trees[k].step(self.target), begin)

    # -------------------------------------------------------------------------- images
    def _look(self, k: int, points: np.ndarray, begin: float) -> None:
        """Take images among points, and the closest one of the likeliest region."""
        if not len(points):
            return
        decision, winner = self.decision, [self.decision.winners[k]]
        excess = decision.excess(self.network.evaluate(points), 0.0, winner)
        for j in np.flatnonzero(excess <= 0):
            self._offer(points[j])
        now = time.perf_counter()
        if self.spent <= REGION_SHARE * (now - begin):
            self._walk(k, points[int(excess.argmin())])
            self.spent += time.perf_counter() - now

    def _walk(self, k: int, here: np.ndarray, rounds: int = 4) -> None:
        """From region to region, as long as images come closer."""
        chain = self.trees[k].chain
        for _ in range(rounds):
            values = self.network.activations(here[None])
            z = np.concatenate([values[i].ravel() for i in self.sources])
            sides = np.where(z >= 0, 1, -1).astype(np.int8)
            key = k, sides.tobytes()
            if key in self.seen:
                return
            self.seen.add(key)
            _, x = chain.decided(sides)
            if not self._offer(x):
                return
            # The optimum is on the border of its region; the next one is beyond.
            here = np.clip(x + 0.01 * (x - here), chain.low, chain.high)

    def _offer(self, x: np.ndarray) -> bool:
        """Keep an image that is closer than the best one and obeys the rule."""
        closer = distance(self.norm, self.decision.original, x) < self.length
        if closer and self.decision.wins(x):
            self.best = x
            return True
        return False
