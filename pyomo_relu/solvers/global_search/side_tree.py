"""Branch and bound on the sides of neurons.

A subproblem fixes the sides of some neurons of a chain, and has the bound of
:class:`~pyomo_relu.bounds.relu_chain.ReluChain`. A round takes many subproblems, splits
each on one neuron, and bounds all children at once, from the slopes and multipliers of
their parents. It needs neither few inputs, as boxes do, nor linear programs, as a MIP
does, but a proof may need a subproblem for every combination of the sides that matter.
"""

from __future__ import annotations

import math

import numpy as np

from pyomo_relu.bounds.relu_chain import ReluChain
from pyomo_relu.bounds.side_ascent import Ascended
from pyomo_relu.solvers.global_search.boxes import BoxPool

#: Subproblems split in a round, and steps of ascent: of the first and of each child.
BATCH, FIRST_STEPS, STEPS = 64, 60, 12

#: From so many bytes on the last subproblems are taken first, which frees memory.
MOST_BYTES = 4e8


class SideTree:
    """Subproblems of a chain that may hold less than a target.

    Parameters
    ----------
    chain : ReluChain
    batch : int
        Subproblems split in a round.
    depth_first : bool
        Take the last ones first. A counterexample is found sooner so, a bound rises
        faster otherwise.

    Attributes
    ----------
    floor : float
        The least bound of what is done with.
    nodes : int
        Subproblems bounded.
    """

    def __init__(
        self, chain: ReluChain, batch: int = BATCH, depth_first: bool = False
    ) -> None:
        self.chain, self.batch, self.depth_first = chain, batch, depth_first
        self.floor, self.nodes = math.inf, 0
        n = chain.count
        single = np.float32
        self.pool = BoxPool(
            {"fixed": np.int8, **dict.fromkeys(("alpha", "beta", "posts", "extra"), single)},
            fixed=n, alpha=n, beta=n, posts=n, extra=chain.extras,
        )  # fmt: skip
        self._taken = math.inf  # the least bound of a round that was interrupted

    def __len__(self) -> int:
        return len(self.pool)

    @property
    def bound(self) -> float:
        """A valid lower bound over the whole box."""
        if not self.nodes:
            return -math.inf
        least = min(self.floor, self._taken)
        return min(least, float(self.pool.bounds.min())) if len(self.pool) else least

    def start(self, target: float = math.inf) -> np.ndarray:
        """Bound the whole box; points (N, n_inputs) where its bound is attained."""
        n = self.chain.count
        fixed = np.zeros((1, n), dtype=np.int8)
        slopes = self.chain.first_slopes()
        found = self.chain.ascend(fixed, slopes, np.zeros((1, n)), FIRST_STEPS, target)
        self.nodes = 1
        self._keep(fixed, found, found.value, target)
        return found.corners

    def step(self, target: float) -> np.ndarray:
        """One round.

        Parameters
        ----------
        target : float
            Subproblems whose bound reaches it are done with.

        Returns
        -------
        points : (N, n_inputs) array
            Where the children's bounds are attained, and the best points of
            subproblems without open neurons.
        """
        chain = self.chain
        self.floor = min(self.floor, self.pool.prune(target))
        last = self.depth_first or self.pool.nbytes > MOST_BYTES
        some = self.pool.take_last(self.batch) if last else self.pool.take(self.batch)
        if not len(some["bound"]):
            return np.zeros((0, len(chain.low)))
        self._taken = float(some["bound"].min())
        fixed, alpha, beta, posts, extra, parent = (
            some[name] for name in ("fixed", "alpha", "beta", "posts", "extra", "bound")
        )
        neuron = chain.choose(fixed, alpha, beta, posts, target, extra)
        points = [np.zeros((0, len(chain.low)))]
        for k in np.flatnonzero(neuron < 0):
            bound, x = chain.decided(fixed[k])
            self.floor = min(self.floor, max(bound, parent[k]))
            points.append(x[None])
        go = neuron >= 0
        if go.any():
            fixed, alpha, beta, extra, parent = (
                np.concatenate([a[go], a[go]]) for a in (fixed, alpha, beta, extra, parent)
            )
            neuron = np.concatenate([neuron[go], neuron[go]])
            each = np.arange(len(fixed))
            fixed[each, neuron] = np.where(each < go.sum(), 1, -1)
            beta[each, neuron] = 0.0
            found = chain.ascend(fixed, alpha, beta, STEPS, target, extra)
            self.nodes += len(fixed)
            points.append(found.corners)
            self._keep(fixed, found, np.maximum(found.value, parent), target)
        self._taken = math.inf
        return np.vstack(points)

    def _keep(self, fixed, found: Ascended, bound, target: float) -> None:
        """Put what may hold less than the target aside, the best last."""
        done = bound >= target
        self.floor = min(self.floor, float(bound[done].min(initial=math.inf)))
        order = np.flatnonzero(~done)
        order = order[np.argsort(-bound[order], kind="stable")]
        self.pool.push(
            bound=bound[order], fixed=fixed[order], alpha=found.alpha[order],
            beta=found.beta[order], posts=found.posts[order], extra=found.extra[order],
        )  # fmt: skip
