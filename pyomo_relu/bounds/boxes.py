r"""`boxes`: linear bounds on a cover of the input box by small ones, and the union of all.

Linear bounds err by how far the neurons' lines are from their graphs, which shrinks
with the box. So with few inputs the union over many small boxes is near exact, at
NumPy speed: all boxes go through one batch of backward passes.

The cover starts even. Then rounds of splits follow, where a neuron's extreme may
still be attained: a sampled point shows the least that the maximum can be, and a box
whose bound lies above it may hold the true maximum. Boxes are ranked by how much of
the gap between the sampled extreme and the bound they make up, for the neuron where
that is most, and the first are split along the input that moves those neurons most.
Children inherit their parent's bounds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np

from pyomo_relu.base.progress import Interruptible
from pyomo_relu.bounds.bounds import Bounds, as_bounds
from pyomo_relu.bounds.crown import absolute_gradient, crown_arrays, needed_rows
from pyomo_relu.bounds.lp import from_crown
from pyomo_relu.bounds.parallel import run_chunks
from pyomo_relu.bounds.pool import Pool, halves
from pyomo_relu.network import Affine, Network

Arrays = list[np.ndarray]


@dataclass(frozen=True)
class CoverSettings:
    """What steers the cover; all numbers were chosen by hand.

    Attributes
    ----------
    chunk : int
        So many boxes are bounded in one NumPy batch, which is one task of an executor.
    samples : int
        So many random points show at the start how far each neuron really goes.
    first : int
        One box in so many that are wanted belongs to the even cover at the start.
    growth : float
        A round may split this share of the boxes there are.
    open : float
        A neuron's side is looked at as long as its bound is farther from what was
        sampled than this share of the sampled range.
    least_range : float
        A sampled range counts as at least so wide, in the neuron's own unit.
    """

    chunk: int = 256
    samples: int = 2048
    first: int = 4
    growth: float = 0.5
    open: float = 1e-6
    least_range: float = 1e-12


SETTINGS = CoverSettings()


def even_cover(
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


def boxes_chunk(
    network: Network,
    token: str,
    common: tuple[Sequence[str], Sequence[np.ndarray], Sequence[np.ndarray]],
    chunk: tuple[np.ndarray, np.ndarray, tuple[Arrays, Arrays] | None],
) -> tuple[Arrays, Arrays]:
    """Bounds of all nodes over some boxes."""
    rules, lows, highs = common
    lower, upper, parent = chunk
    start = (lows, highs) if parent is None else parent
    return crown_arrays(network, lower, upper, start, rules=rules)


class BoxCover:
    """Boxes that cover the input box, with the bounds of every node over each.

    Attributes
    ----------
    pool : Pool
        The boxes, in the fields ``lower`` and ``upper``.
    watched : list of (node, rows)
        The neurons whose bounds the boxes are for.
    """

    def __init__(
        self,
        network: Network,
        start: Bounds,
        rules: Sequence[str],
        clock: Interruptible,
        executor: Executor | None,
    ) -> None:
        self.network, self.start = network, start
        self.rules, self.clock, self.executor = rules, clock, executor
        n, size = network.n_inputs, [node.size for node in network.nodes]
        self._names = [[f"{s}{i}" for i in range(len(size))] for s in ("low", "high")]
        widths = {name: w for names in self._names for name, w in zip(names, size)}
        self.pool = Pool(lower=n, upper=n, **widths)
        self.watched = list(self._watched())
        low, high = start.input_box
        more = np.random.default_rng(0).random((SETTINGS.samples, len(low)))
        values = network.activations(np.clip(low + more * (high - low), low, high))
        self.seen_low = [v.min(axis=0) for v in values]
        self.seen_high = [v.max(axis=0) for v in values]

    def _watched(self) -> Iterator[tuple[int, np.ndarray]]:
        network, start, readers = self.network, self.start, self.network.readers()
        first = {i for i, _ in network.input_slices()}
        for i, node in enumerate(network.nodes):
            if isinstance(node, Affine) and not all(s in first for s in node.sources):
                ranges = start.lower[i][None], start.upper[i][None]
                rows = needed_rows(network, i, readers[i], *ranges)
                if len(rows):
                    yield i, rows

    def __len__(self) -> int:
        return len(self.pool)

    @property
    def bounds(self) -> list[Arrays]:
        """Lower, then upper bounds of every node over each box."""
        return [[self.pool[name] for name in names] for names in self._names]

    def add(self, lower: np.ndarray, upper: np.ndarray, parents: np.ndarray) -> bool:
        """Bound new boxes, which replace their parents; all of them or none.

        Parameters
        ----------
        parents : (N,) int array
            For each new box the one it is a part of; both parts must be there. Empty for
            the first boxes.
        """
        size, known = SETTINGS.chunk, self.bounds
        chunks = []
        for k in range(0, len(lower), size):
            some = parents[k : k + size]
            inherited = [[a[some] for a in side] for side in known] if len(some) else None
            chunks.append((lower[k : k + size], upper[k : k + size], inherited))
        common = (tuple(self.rules), self.start.lower, self.start.upper)
        found: dict[int, tuple[Arrays, Arrays]] = dict(
            run_chunks(
                boxes_chunk, self.network, common, chunks, self.executor, self.clock, "boxes"
            )
        )  # fmt: skip
        if len(found) < len(chunks):
            return False  # ended early: a union with holes bounds nothing
        new = {
            name: np.concatenate([found[k][side][i] for k in range(len(chunks))])
            for side, names in enumerate(self._names)
            for i, name in enumerate(names)
        }
        first, any_bound = parents[: len(parents) // 2], np.zeros(len(lower))
        self.pool.replace(first, bound=any_bound, lower=lower, upper=upper, **new)
        for i, v in enumerate(self.network.activations(0.5 * (lower + upper))):
            self.seen_low[i] = np.minimum(self.seen_low[i], v.min(axis=0))
            self.seen_high[i] = np.maximum(self.seen_high[i], v.max(axis=0))
        return True

    def union(self) -> tuple[Arrays, Arrays]:
        """Bounds of every node over the whole box."""
        lows, highs = self.bounds
        return [a.min(axis=0) for a in lows], [a.max(axis=0) for a in highs]

    def ranges(self, i: int, rows: np.ndarray) -> np.ndarray:
        """How far some neurons of a node were seen to go, never 0."""
        seen = (self.seen_high[i] - self.seen_low[i])[rows]
        return np.maximum(seen, SETTINGS.least_range)

    def worst(self, room: int) -> np.ndarray:
        """Numbers of the boxes to split, at most ``room``.

        First come those that make up most of a neuron's gap, the older ones first where
        that is even; none that makes up nothing or is but a point.
        """
        score = np.zeros(len(self))
        lows, highs = self.bounds
        for i, rows in self.watched:
            for bound, seen, sign in (
                (highs[i], self.seen_high[i], 1.0),
                (lows[i], self.seen_low[i], -1.0),
            ):
                excess = sign * (bound[:, rows] - seen[rows])
                top = excess.max(axis=0)
                open_ = top > SETTINGS.open * self.ranges(i, rows)
                if open_.any():
                    part = excess[:, open_] / top[open_]
                    score = np.maximum(score, part.max(axis=1))
        order = np.lexsort((self.pool["number"], -score))[:room]
        wide = np.any(self.pool["upper"] > self.pool["lower"], axis=1)
        return order[(score[order] > 0) & wide[order]]

    def steep(self, lows: Arrays, highs: Arrays) -> np.ndarray:
        """How much each input moves the watched neurons of some boxes, (N, n_inputs)."""
        total = np.zeros((len(lows[0]), self.network.n_inputs))
        for i, rows in self.watched:
            g = absolute_gradient(self.network, lows, highs, i, rows)
            total += (g / self.ranges(i, rows)[:, None]).sum(axis=1)
        return total

    def split(self, which: np.ndarray) -> bool:
        """Halve boxes along the input that moves the watched neurons most."""
        lower, upper = self.pool["lower"][which], self.pool["upper"][which]
        known = self.bounds
        steep = [
            self.steep(*([a[some] for a in side] for side in known))
            for k in range(0, len(which), SETTINGS.chunk)
            for some in [which[k : k + SETTINGS.chunk]]
        ]
        axis = np.argmax((np.concatenate(steep) + 1e-300) * (upper - lower), axis=1)
        each = np.arange(len(which))
        middle = 0.5 * (lower[each, axis] + upper[each, axis])
        return self.add(*halves(lower, upper, axis, middle), np.concatenate([which, which]))


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
    clock = Interruptible(time_limit)
    start = from_crown(network, lower, upper, start)
    cover = BoxCover(network, start, rules, clock, executor)
    lows, highs = start.lower, start.upper
    if cover.watched:
        whole = ([a[None] for a in side] for side in (lows, highs))
        first = even_cover(
            lower, upper, max(1, count // SETTINGS.first), cover.steep(*whole)[0]
        )
        going = cover.add(*first, np.zeros(0, dtype=int))
        while going and (n := len(cover)) < count:
            which = cover.worst(min(count - n, max(1, int(SETTINGS.growth * n))))
            going = len(which) > 0 and not clock.expired() and cover.split(which)
        if len(cover):
            found = cover.union()
            lows = tuple(np.maximum(a, b) for a, b in zip(lows, found[0]))
            highs = tuple(np.minimum(a, b) for a, b in zip(highs, found[1]))
    return as_bounds(
        network,
        lows,
        highs,
        "boxes",
        clock,
        start,
        boxes=len(cover),
        **clock.details(),
    )
