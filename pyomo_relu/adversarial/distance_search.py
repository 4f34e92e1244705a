"""The closest image by branch and bound on the sides of neurons, without any program.

One :class:`~pyomo_relu.sides.tree.SideTree` for each class that may
win, with the distance as the bound of a subproblem; they share the best image. The points
where bounds are attained say in which linear regions images may be: the closest image of
a region is a small linear program.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pyomo_relu.adversarial.decision import Decision
from pyomo_relu.adversarial.distance_program import distance
from pyomo_relu.adversarial.nearest_settings import NEAREST
from pyomo_relu.base.deadline import Deadline
from pyomo_relu.base.progress import progress
from pyomo_relu.network import Network, PiecewiseLinear
from pyomo_relu.sides.distance_chain import NORMS, DistanceChain
from pyomo_relu.sides.tree import SideTree


class DistanceSearch:
    """One search; see :meth:`fits`.

    Parameters
    ----------
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
        self.network, self.trees = decision.network, []
        for w in decision.winners:
            rows, limits = decision.rows(w, decision.margin)
            chain = DistanceChain(
                self.network, lows, highs, decision.original, rows, limits, norm
            )
            self.trees.append(SideTree(chain))
        self.seen: set[tuple[int, bytes]] = set()
        self.clock, self.spent = Deadline(), 0.0

    @staticmethod
    def fits(network: Network, norm: str) -> bool:
        """Whether there are such bounds for a network and a norm."""
        return norm in NORMS and DistanceChain.fits(network)

    @staticmethod
    def suits(network: Network) -> bool:
        """Whether it is likely to be quicker than a program.

        Through many layers its bounds are weak, and many narrow layers are few binaries.
        """
        widths = [node.size for node in network.nodes if isinstance(node, PiecewiseLinear)]
        deep = len(widths) >= NEAREST.deep
        return not (deep and max(widths) <= NEAREST.narrow)

    @property
    def length(self) -> float:
        """The distance of the best image."""
        if self.best is None:
            return np.inf
        return distance(self.norm, self.decision.original, self.best)

    @property
    def target(self) -> float:
        """What a subproblem's bound must reach."""
        return min(self.radius, self.length * (1.0 - NEAREST.sides_gap))

    @property
    def bound(self) -> float:
        """No image is closer; beyond the radius nothing is known."""
        return min(self.radius, self.length, *(t.bound for t in self.trees))

    @property
    def nodes(self) -> int:
        """Subproblems bounded."""
        return sum(t.nodes for t in self.trees)

    def run(self, deadline: Deadline) -> bool:
        """Search; whether it was completed."""
        self.clock, shown = Deadline(), 0
        with progress(0, "splitting neurons", "node") as bar:
            for k, tree in enumerate(self.trees):
                self.look(k, tree.start(self.target))
            while True:
                bar.update(self.nodes - shown)
                shown = self.nodes
                left = [k for k, t in enumerate(self.trees) if len(t)]
                if not left or deadline.expired():
                    return not left
                k = min(left, key=lambda j: self.trees[j].bound)
                self.look(k, self.trees[k].step(self.target))

    # -------------------------------------------------------------------------- images
    def look(self, k: int, points: np.ndarray) -> None:
        """Take images among points, and the closest one of the likeliest region."""
        if not len(points):
            return
        winner = [self.decision.winners[k]]
        excess = self.decision.excess(self.network.evaluate(points), 0.0, winner)
        for j in np.flatnonzero(excess <= 0):
            self._offer(points[j])
        now = self.clock.elapsed
        if self.spent <= NEAREST.region_share * now:
            self._walk(k, points[int(excess.argmin())])
            self.spent += self.clock.elapsed - now

    def _walk(self, k: int, here: np.ndarray) -> None:
        """From region to region, as long as images come closer."""
        chain, nodes = self.trees[k].chain, self.network.nodes
        sources = [n.source for n in nodes if isinstance(n, PiecewiseLinear)]
        for _ in range(NEAREST.region_rounds):
            values = self.network.activations(here[None])
            z = np.concatenate([values[i].ravel() for i in sources])
            sides = np.where(z >= 0, 1, -1).astype(np.int8)
            key = k, sides.tobytes()
            if key in self.seen:
                return
            self.seen.add(key)
            _, x = chain.decided(sides)
            if not self._offer(x):
                return
            # The optimum is on the border of its region; the next one is beyond.
            here = np.clip(x + NEAREST.region_beyond * (x - here), chain.low, chain.high)

    def _offer(self, x: np.ndarray) -> bool:
        """Keep an image that is closer than the best one and obeys the rule."""
        closer = distance(self.norm, self.decision.original, x) < self.length
        if closer and self.decision.wins(x):
            self.best = x
            return True
        return False
