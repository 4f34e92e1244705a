r"""`boxes`: linear bounds on a partition of the input box, and the union of all.

Linear bounds err by how far the neurons' lines are from their graphs, which shrinks
with the box. So with few inputs the union over many small boxes is near exact, at
NumPy speed: all boxes go through one batch of backward passes.

The partition starts even. Then rounds of splits follow, where a neuron's extreme may
still be attained: a sampled point shows the least that the maximum can be, and a box
whose bound lies above it may hold the true maximum. Boxes are ranked by how much of
the gap between the sampled extreme and the bound they make up, for the neuron where
that is most, and the first are split along the input that moves those neurons most.
Children inherit their parent's bounds.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Executor

import numpy as np

from pyomo_relu.bounds.bounds import Bounds
from pyomo_relu.bounds.crown import absolute_gradient, as_bounds, crown_arrays, needed_rows
from pyomo_relu.bounds.lp import from_crown
from pyomo_relu.bounds.parallel import run_chunks
from pyomo_relu.bounds.progress import Clock
from pyomo_relu.network import Affine, Network

#: Boxes that one task takes.
CHUNK_BOXES = 256

Arrays = list[np.ndarray]


def even_partition(
    lower: np.ndarray, upper: np.ndarray, n: int, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Cut a box into at most ``n`` equal boxes.

    Parameters
    ----------
    lower, upper : (n_inputs,) arrays
    n : int
    weights : (n_inputs,) array
        How much each input matters for its width; inputs are halved in the order of
        ``weight * width`` of what is left.

    Returns
    -------
    lower, upper : (N, n_inputs) arrays, N <= n
    """
    cuts = np.ones(len(lower), dtype=np.int64)
    score = weights * (upper - lower)
    while True:
        k = int(np.argmax(score / cuts))
        if score[k] <= 0 or np.prod(cuts, dtype=float) / cuts[k] * (cuts[k] + 1) > n:
            break
        cuts[k] += 1
    grids = [
        np.append(low + (high - low) / c * np.arange(c), high)
        for low, high, c in zip(lower, upper, cuts)
    ]
    index = np.indices(tuple(cuts.tolist())).reshape(len(cuts), -1)
    lows = np.stack([g[i] for g, i in zip(grids, index)], axis=1)
    highs = np.stack([g[i + 1] for g, i in zip(grids, index)], axis=1)
    return lows, highs


def boxes_chunk(network: Network, token: str, common, chunk):
    """Bounds of all nodes over some boxes."""
    rules, lows, highs = common
    lower, upper, parent = chunk
    start = (lows, highs) if parent is None else parent
    return crown_arrays(network, lower, upper, start, rules=rules)


class Partition:
    """Boxes that cover the input box, with the bounds of every node over each."""

    def __init__(
        self,
        network: Network,
        start: Bounds,
        rules: Sequence[str],
        clock: Clock,
        executor: Executor | None,
    ) -> None:
        self.network, self.start = network, start
        self.rules, self.clock, self.executor = rules, clock, executor
        self.lower = self.upper = np.zeros((0, network.n_inputs))
        self.lows: Arrays = [np.zeros((0, n.size)) for n in network.nodes]
        self.highs: Arrays = [np.zeros((0, n.size)) for n in network.nodes]
        readers = network.readers()
        first = {i for i, _ in network.input_slices()}
        self.watched = [
            (i, rows)
            for i, node in enumerate(network.nodes)
            if isinstance(node, Affine) and not all(s in first for s in node.sources)
            for rows in [
                needed_rows(
                    network, i, readers[i], start.lower[i][None], start.upper[i][None]
                )
            ]
            if len(rows)
        ]
        low, high = start.input_box
        points = np.clip(
            low + np.random.default_rng(0).random((2048, len(low))) * (high - low),
            low,
            high,
        )
        values = network.activations(points)
        self.seen_low = [v.min(axis=0) for v in values]
        self.seen_high = [v.max(axis=0) for v in values]

    def add(self, lower: np.ndarray, upper: np.ndarray, parents: np.ndarray | None) -> bool:
        """Bound new boxes, which replace their parents; all of them or none.

        Parameters
        ----------
        parents : (N,) int array or None
            For each new box the one it is a part of; both parts must be there.
        """
        cuts = [slice(k, k + CHUNK_BOXES) for k in range(0, len(lower), CHUNK_BOXES)]
        chunks = []
        for cut in cuts:
            inherited = None
            if parents is not None:
                inherited = tuple(
                    [a[parents[cut]] for a in arrays] for arrays in (self.lows, self.highs)
                )
            chunks.append((lower[cut], upper[cut], inherited))
        common = (tuple(self.rules), self.start.lower, self.start.upper)
        found: dict[int, tuple[Arrays, Arrays]] = dict(
            run_chunks(
                boxes_chunk,
                self.network,
                common,
                chunks,
                self.executor,
                self.clock,
                "boxes",
            )
        )
        if len(found) < len(chunks):
            return False  # ended early: a union with holes bounds nothing
        keep = np.ones(len(self.lower), dtype=bool)
        if parents is not None:
            keep[parents] = False
        self.lower = np.concatenate([self.lower[keep], lower])
        self.upper = np.concatenate([self.upper[keep], upper])
        order = range(len(chunks))
        for i in range(len(self.network.nodes)):
            low, high = ([found[k][side][i] for k in order] for side in (0, 1))
            self.lows[i] = np.concatenate([self.lows[i][keep], *low])
            self.highs[i] = np.concatenate([self.highs[i][keep], *high])
        self._sample(0.5 * (lower + upper))
        return True

    def _sample(self, points: np.ndarray) -> None:
        for i, v in enumerate(self.network.activations(points)):
            self.seen_low[i] = np.minimum(self.seen_low[i], v.min(axis=0))
            self.seen_high[i] = np.maximum(self.seen_high[i], v.max(axis=0))

    def union(self) -> tuple[Arrays, Arrays]:
        """Bounds of every node over the whole box."""
        return [a.min(axis=0) for a in self.lows], [a.max(axis=0) for a in self.highs]

    def ranking(self) -> np.ndarray:
        """For each box, how much of a neuron's gap it makes up; 0: none, 1: all."""
        score = np.zeros(len(self.lower))
        for i, rows in self.watched:
            for bound, seen, sign in (
                (self.highs[i], self.seen_high[i], 1.0),
                (self.lows[i], self.seen_low[i], -1.0),
            ):
                excess = sign * (bound[:, rows] - seen[rows])
                top = excess.max(axis=0)
                size = np.maximum(self.seen_high[i] - self.seen_low[i], 1e-12)[rows]
                open_ = top > 1e-6 * size
                if open_.any():
                    part = excess[:, open_] / top[open_]
                    score = np.maximum(score, part.max(axis=1))
        return score

    def split(self, which: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Halve boxes along the input that moves the watched neurons most."""
        lower, upper = self.lower[which], self.upper[which]
        width = upper - lower
        steep = np.zeros(width.shape)
        for i, rows in self.watched:
            for k in range(0, len(which), CHUNK_BOXES):
                some = which[k : k + CHUNK_BOXES]
                lows, highs = ([a[some] for a in x] for x in (self.lows, self.highs))
                g = absolute_gradient(self.network, lows, highs, i, rows)
                size = np.maximum(self.seen_high[i] - self.seen_low[i], 1e-12)[rows]
                steep[k : k + CHUNK_BOXES] += (g / size[:, None]).sum(axis=1)
        axis = np.argmax((steep + 1e-300) * width, axis=1)
        at = np.arange(len(which))
        middle = 0.5 * (lower[at, axis] + upper[at, axis])
        left, right = upper.copy(), lower.copy()
        left[at, axis], right[at, axis] = middle, middle
        return np.concatenate([lower, right]), np.concatenate([left, upper])


def boxes(
    network: Network,
    lower: np.ndarray,
    upper: np.ndarray,
    start: Bounds | None = None,
    *,
    count: int = 1024,
    rules: Sequence[str] = ("adaptive",),
    time_limit: float | None = None,
    executor: Executor | None = None,
) -> Bounds:
    """Bounds by linear propagation over a partition of the input box; few inputs.

    Parameters
    ----------
    network : Network
    lower, upper : (n_inputs,) arrays
    start : Bounds, optional
        Valid bounds to start from; ``crown`` otherwise.
    count : int
        How many boxes to end with, about.
    rules : sequence of str
        Slope rules to intersect in each box; one is enough where boxes are small.
    time_limit : float, optional
        Seconds; the last complete partition counts.
    executor : concurrent.futures.Executor, optional
        Where to bound the boxes; here if left out.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, but is {count}.")
    begin = time.perf_counter()
    clock = Clock(time_limit)
    start = from_crown(network, lower, upper, start)
    arrays = [a[None] for a in start.lower], [a[None] for a in start.upper]
    partition = Partition(network, start, rules, clock, executor)
    weights = np.zeros(network.n_inputs)
    for i, rows in partition.watched:
        g = absolute_gradient(network, *arrays, i, rows)[0]
        size = np.maximum(partition.seen_high[i] - partition.seen_low[i], 1e-12)[rows]
        weights += (g / size[:, None]).sum(axis=0)
    n = 0
    lows, highs = start.lower, start.upper
    if partition.watched:
        first = max(1, count // 4)
        going = partition.add(*even_partition(lower, upper, first, weights), None)
        while going and len(partition.lower) < count:
            n = len(partition.lower)
            score = partition.ranking()
            order = np.argsort(-score, kind="stable")
            room = min(count - n, max(1, n // 2))
            which = order[:room]
            which = which[score[which] > 0]
            wide = (partition.upper[which] > partition.lower[which]).any(axis=1)
            which = which[wide]
            if not len(which) or clock.expired():
                break
            low, high = partition.split(which)
            going = partition.add(low, high, np.concatenate([which, which]))
        n = len(partition.lower)
        if n:
            found = partition.union()
            lows = tuple(np.maximum(a, b) for a, b in zip(start.lower, found[0]))
            highs = tuple(np.minimum(a, b) for a, b in zip(start.upper, found[1]))
    result = as_bounds(
        network,
        [a[None] for a in lows],
        [a[None] for a in highs],
        "boxes",
        time.perf_counter() - begin + start.seconds,
        boxes=n,
        **clock.details(),
    )
    return result if start.scope == "box" else result.scoped(start.scope)
