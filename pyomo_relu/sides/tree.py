"""Branch and bound on the sides of neurons.

A subproblem fixes the sides of some neurons of a chain, and has the bound of
:class:`~pyomo_relu.sides.relu_chain.ReluChain`. A round takes many subproblems, splits
each on one neuron, and bounds all children at once, from the slopes and multipliers of
their parents, in chunks that an executor may take. It needs neither few inputs, as boxes
do, nor linear programs, as a MIP does, but a proof may need a subproblem for every
combination of the sides that matter.
"""

from __future__ import annotations

import math
import uuid
from dataclasses import dataclass

import numpy as np

from pyomo_relu.bounds.parallel import Crew
from pyomo_relu.bounds.pool import Parts, Pool, in_chunks, together
from pyomo_relu.sides.relu_chain import ReluChain


@dataclass
class Grown:
    """What became of subproblems that were split.

    Attributes
    ----------
    children : dict of arrays
        Fields of the pool: the children that may hold less than the target.
    closed : float
        The least bound of what is done with.
    points : (N, n_inputs) array
        Where bounds are attained.
    nodes : int
        Children bounded.
    """

    children: Parts
    closed: float
    points: np.ndarray
    nodes: int


class SideSplitter:
    """Splits subproblems of a chain, here or on a worker.

    Attributes
    ----------
    fingerprint : str
        The name under which a worker keeps it.
    """

    def __init__(self, chain: ReluChain) -> None:
        self.chain, self.fingerprint = chain, uuid.uuid4().hex

    def split(self, some: Parts, target: float) -> Grown:
        """Split each subproblem on one neuron and bound the children."""
        chain = self.chain
        fixed, alpha, beta, posts, extra, parent = (
            some[name] for name in ("fixed", "alpha", "beta", "posts", "extra", "bound")
        )
        low, high = some["low"], some["high"]
        ranges = (low, high) if chain.has_ranges else None
        neuron = chain.choose(fixed, alpha, beta, posts, target, extra, ranges)
        points, closed = [np.zeros((0, len(chain.low)))], math.inf
        for k in np.flatnonzero(neuron < 0):
            own = (low[k], high[k]) if chain.has_ranges else None
            bound, x = chain.decided(fixed[k], own)
            closed = min(closed, max(bound, parent[k]))
            points.append(x[None])
        go = neuron >= 0
        fixed, alpha, beta, extra, low, high, parent = (
            np.concatenate([a[go], a[go]])
            for a in (fixed, alpha, beta, extra, low, high, parent)
        )
        if not go.any():
            none = open_parts(fixed, alpha, beta, beta, extra, parent, low, high)
            return Grown(none, closed, np.vstack(points), 0)
        neuron = np.concatenate([neuron[go], neuron[go]])
        each, nodes = np.arange(len(fixed)), len(fixed)
        fixed[each, neuron] = np.where(each < go.sum(), 1, -1)
        beta[each, neuron] = 0.0
        low, high, empty = chain.ranges(fixed, low, high, target)
        fixed, alpha, beta, extra, low, high, parent = (
            a[~empty] for a in (fixed, alpha, beta, extra, low, high, parent)
        )
        ranges = (low, high) if chain.has_ranges else None
        steps = chain.settings.later
        found = chain.ascend(fixed, alpha, beta, steps, target, extra, ranges)
        points.append(found.corners)
        bound = np.maximum(found.value, parent)
        done = bound >= target
        closed = min(closed, float(bound[done].min(initial=math.inf)))
        every = (
            fixed, found.alpha, found.beta, found.posts, found.extra, bound, low, high
        )  # fmt: skip
        children = open_parts(*(a[~done] for a in every))
        return Grown(children, closed, np.vstack(points), nodes)


def open_parts(
    fixed: np.ndarray,
    alpha: np.ndarray,
    beta: np.ndarray,
    posts: np.ndarray,
    extra: np.ndarray,
    bound: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
) -> Parts:
    """Fields of the pool, in the precision that it keeps."""
    single = {"alpha": alpha, "beta": beta, "posts": posts, "extra": extra}
    fields = {name: a.astype(np.float32) for name, a in single.items()}
    return {"fixed": fixed, "bound": bound, "low": low, "high": high, **fields}


def split_chunk(splitter: SideSplitter, token: str, target: float, some: Parts) -> Grown:
    """What a worker runs."""
    return splitter.split(some, target)


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
    crew : Crew, optional
        Who splits the chunks of a round; this process if left out.

    Attributes
    ----------
    pool : Pool
        The open subproblems.
    nodes : int
        Subproblems bounded.
    """

    def __init__(
        self,
        chain: ReluChain,
        batch: int | None = None,
        depth_first: bool = False,
        crew: Crew | None = None,
    ) -> None:
        self.chain, self.depth_first = chain, depth_first
        self.crew, self.splitter = crew or Crew(), SideSplitter(chain)
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
        parts = found.alpha, found.beta, found.posts, found.extra, found.value
        if found.value[0] < target:
            self.pool.push(**open_parts(fixed, *parts, low, high))
        self.pool.close(found.value[found.value >= target])
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
        """Split subproblems, put what may hold less than the target aside, the best last."""
        del some["number"]
        chunks = in_chunks(some, self.chain.settings.chunk)
        found = self.crew.results(split_chunk, self.splitter, target, chunks, "sides")
        children, points = [], [np.zeros((0, len(self.chain.low)))]
        for chunk, grown in zip(chunks, found):
            if grown is None:  # the search ended meanwhile: it stays as it was
                children.append(chunk)
                continue
            children.append(grown.children)
            points.append(grown.points)
            self.pool.close(grown.closed)
            self.nodes += grown.nodes
        whole = together(children)
        order = np.argsort(-whole["bound"], kind="stable")
        self.pool.push(**{name: a[order] for name, a in whole.items()})
        return np.vstack(points)
