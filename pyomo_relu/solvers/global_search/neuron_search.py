"""Branch and bound on the sides of neurons, for an objective over a box.

Boxes shrink the bounds of every neuron, but their number grows with each input. Where
a chain of ReLU layers has some dozens of undecided neurons and more than a handful of
inputs, fixing sides is quicker: a random 10-30-30-1 network takes 2 to 4 seconds, boxes
and HiGHS half a minute.
"""

from __future__ import annotations

import math

import numpy as np

from pyomo_relu.presolve.problem import Problem
from pyomo_relu.sides.relu_chain import ReluChain
from pyomo_relu.sides.tree import SideTree
from pyomo_relu.solvers.global_search.cost_search import CrewSearch
from pyomo_relu.solvers.global_search.limits import DEFAULTS
from pyomo_relu.solvers.global_search.mip import node_ranges
from pyomo_relu.solvers.global_search.settings import SIDES


class NeuronSearch(CrewSearch):
    """Subproblems with fixed sides of one problem; see :meth:`fits`."""

    title = "sides"

    tree: SideTree | None = None
    offset = 0.0

    @staticmethod
    def fits(problem: Problem) -> bool:
        """Whether the problem is a box of continuous inputs and a chain of ReLU layers."""
        if problem.network is None or not problem.is_box:
            return False
        low, high = problem.box
        whole = problem.integer[: problem.n] & (low < high)
        return not whole.any() and ReluChain.fits(problem.network)

    @property
    def bound(self) -> float:
        """A valid lower bound of the cost."""
        if self.tree is None:
            return -math.inf
        return min(self.tree.bound + self.offset, self.incumbent.cost)

    @property
    def open_boxes(self) -> int:
        """Subproblems that are neither pruned nor split."""
        return 1 if self.tree is None else len(self.tree)

    @property
    def target(self) -> float:
        """The cut-off of the chain's own value."""
        return self.cutoff - self.offset

    def begin(self) -> None:
        """Bound the whole box."""
        p = self.problem
        assert p.network is not None
        self.incumbent.search_box()
        row = np.zeros(p.n_queries)
        if p.cost_query >= 0:
            row[p.cost_query] = p.cost_weight
        rest = slice(p.n + p.q, None)
        self.offset = float(p.cost[rest] @ p.lower[rest])
        chain = ReluChain(p.network, *node_ranges(p, *p.box), row, p.cost[: p.n])
        batch = int(np.clip(SIDES.numbers // chain.count, SIDES.fewest, SIDES.most))
        # Whoever has many workers asks for wide rounds of boxes; those here widen with them.
        batch *= max(1, self.limits.batch_size // DEFAULTS.batch_size)
        self.tree = SideTree(chain, batch, crew=self.crew)
        self._look(self.tree.start(self.target))
        self.counts.boxes += 1

    def step(self) -> None:
        """Split a batch of subproblems."""
        assert self.tree is not None
        before = self.tree.nodes
        self._look(self.tree.step(self.target))
        self.counts.boxes += self.tree.nodes - before

    def _look(self, points: np.ndarray) -> None:
        """Offer points, and walk on from a better one."""
        if not len(points):
            return
        before = self.incumbent.cost
        self.incumbent.offer_inputs(points)
        point = self.incumbent.point
        if point is not None and self.gained(before):
            self.incumbent.polish(point, SIDES.walk, self.remaining)
