"""Branch and bound on the sides of neurons.

A subproblem fixes the sides of some neurons of a chain, and has the bound of
:class:`~pyomo_relu.sides.relu_chain.ReluChain`. A round takes many subproblems, splits
each on one neuron, and bounds all children at once, from the slopes and multipliers of
their parents. It needs neither few inputs, as boxes do, nor linear programs, as a MIP
does, but a proof may need a subproblem for every combination of the sides that matter.
"""

from __future__ import annotations

import math

import numpy as np

from pyomo_relu.bounds.pool import Parts, Pool
from pyomo_relu.sides.relu_chain import ReluChain
from pyomo_relu.sides.subproblems import Ascended


class SideTree:
    """Subproblems of a chain that may hold less than a target.

    Parameters
    ----------
    chain : ReluChain
    batch : int, optional
        Subproblems split in a round; as the chain's settings say if left out.
    depth_first : bool
        Take the last ones first. A counterexample is found sooner so, a bound rises
        faster otherwise.

    Attributes
    ----------
    pool : Pool
        The open subproblems.
    nodes : int
        Subproblems bounded.
    """

    def __init__(
        self, chain: ReluChain, batch: int | None = None, depth_first: bool = False
    ) -> None:
        self.chain, self.depth_first = chain, depth_first
        self.batch = chain.settings.batch if batch is None else batch
        self.nodes = 0
        n = chain.count
        own = n if chain.has_ranges else 0
        names = ("alpha", "beta", "posts", "extra")
        self.pool = Pool(
            {"fixed": np.int8, **dict.fromkeys(names, np.float32)},
            fixed=n, alpha=n, beta=n, posts=n, extra=chain.extras, low=own, high=own,
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.pool)

    @property
    def bound(self) -> float:
        """A valid lower bound over the whole box."""
        return self.pool.bound

    def start(self, target: float = math.inf) -> np.ndarray:
        """Bound the whole box; points (N, n_inputs) where its bound is attained."""
        n = self.chain.count
        fixed = np.zeros((1, n), dtype=np.int8)
        slopes = self.chain.first_slopes()
        steps = self.chain.settings.first
        found = self.chain.ascend(fixed, slopes, np.zeros((1, n)), steps, target)
        self.nodes = 1
        own = n if self.chain.has_ranges else 0
        low, high = self.chain.z_low[None, :own], self.chain.z_high[None, :own]
        self._keep(fixed, found, found.value, target, low, high)
        self.pool.begin()
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
        last = self.depth_first or self.pool.nbytes > self.chain.settings.most_bytes
        with self.pool.round(self.batch, target, last) as some:
            if not len(some["bound"]):
                return np.zeros((0, len(self.chain.low)))
            return self._split(some, target)

    def _split(self, some: Parts, target: float) -> np.ndarray:
        chain = self.chain
        fixed, alpha, beta, posts, extra, parent = (
            some[name] for name in ("fixed", "alpha", "beta", "posts", "extra", "bound")
        )
        low, high = some["low"], some["high"]
        ranges = (low, high) if chain.has_ranges else None
        neuron = chain.choose(fixed, alpha, beta, posts, target, extra, ranges)
        points = [np.zeros((0, len(chain.low)))]
        for k in np.flatnonzero(neuron < 0):
            own = (low[k], high[k]) if chain.has_ranges else None
            bound, x = chain.decided(fixed[k], own)
            self.pool.close(max(bound, parent[k]))
            points.append(x[None])
        go = neuron >= 0
        if go.any():
            fixed, alpha, beta, extra, low, high, parent = (
                np.concatenate([a[go], a[go]])
                for a in (fixed, alpha, beta, extra, low, high, parent)
            )
            neuron = np.concatenate([neuron[go], neuron[go]])
            each = np.arange(len(fixed))
            fixed[each, neuron] = np.where(each < go.sum(), 1, -1)
            beta[each, neuron] = 0.0
            self.nodes += len(fixed)
            low, high, empty = chain.ranges(fixed, low, high, target)
            fixed, alpha, beta, extra, low, high, parent = (
                a[~empty] for a in (fixed, alpha, beta, extra, low, high, parent)
            )
            ranges = (low, high) if chain.has_ranges else None
            steps = chain.settings.later
            found = chain.ascend(fixed, alpha, beta, steps, target, extra, ranges)
            points.append(found.corners)
            bound = np.maximum(found.value, parent)
            self._keep(fixed, found, bound, target, low, high)
        return np.vstack(points)

    def _keep(
        self,
        fixed: np.ndarray,
        found: Ascended,
        bound: np.ndarray,
        target: float,
        low: np.ndarray,
        high: np.ndarray,
    ) -> None:
        """Put what may hold less than the target aside, the best last."""
        done = bound >= target
        self.pool.close(bound[done])
        order = np.flatnonzero(~done)
        order = order[np.argsort(-bound[order], kind="stable")]
        self.pool.push(
            bound=bound[order], fixed=fixed[order], alpha=found.alpha[order],
            beta=found.beta[order], posts=found.posts[order], extra=found.extra[order],
            low=low[order], high=high[order],
        )  # fmt: skip
