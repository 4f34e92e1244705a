r"""Covers of input boxes by small ones, with linear bounds of every node over each.

Linear bounds err by how far the neurons' lines are from their graphs, which shrinks
with the box. So with few inputs the union over many small boxes is near exact, at
NumPy speed: all boxes go through one batch of backward passes.

The cover starts even. Then rounds of splits follow, where a neuron's extreme may
still be attained: a sampled point shows the least that the maximum can be, and a box
whose bound lies above it may hold the true maximum. Boxes are ranked by how much of
the gap between the sampled extreme and the bound they make up, for the neuron where
that is most, and the first are split along the input that moves those neurons most.
Children inherit their parent's bounds.

Several input boxes of one network are covered at once, in the same rounds: each cover is
what it would be alone (but for the rounding of larger matrix products), at a fraction of
the time, for a round of few boxes costs as much as one of many.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from pyomo_relu.base.progress import Interruptible
from pyomo_relu.bounds.crown import absolute_gradient, crown_arrays, needed_entries
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
    numbers : int
        So many bounds of nodes are held at a time where several input boxes are covered
        (16 MiB); more input boxes than that have to wait.
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
    numbers: int = 2**21
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
    # Numbers of the boxes as digits, the last input's fastest. (An array has 64 axes at most.)
    turns = np.cumprod(np.append(1, cuts[:0:-1]))[::-1]
    index = np.arange(turns[0] * cuts[0]) // turns[:, None] % cuts[:, None]
    lows = np.stack([g[i] for g, i in zip(grids, index)], axis=1)
    highs = np.stack([g[i + 1] for g, i in zip(grids, index)], axis=1)
    return lows, highs


def boxes_chunk(
    network: Network,
    token: str,
    rules: Sequence[str],
    chunk: tuple[np.ndarray, np.ndarray, tuple[Arrays, Arrays], np.ndarray],
) -> tuple[Arrays, Arrays]:
    """Bounds of all nodes over some boxes, from those of their parents."""
    lower, upper, known, groups = chunk
    return crown_arrays(network, lower, upper, known, rules=rules, groups=groups)


class BoxCovers:
    """Boxes that cover each of several input boxes, with the bounds of every node.

    Parameters
    ----------
    network : Network
    lower, upper : (R, n_inputs) arrays
        The input boxes, here called roots.
    start : (lows, highs)
        Bounds of every node over each root, (R, size) arrays.
    rules : sequence of str
        Slope rules to intersect in each box.
    clock : Interruptible
    executor : Executor or None

    Attributes
    ----------
    pool : Pool
        The boxes, in the fields ``lower`` and ``upper``, and the number of the ``root``
        that each is a part of.
    watched : list of (node, rows, (R, len(rows)) bool)
        The neurons whose bounds the boxes are for, and over which roots.
    """

    def __init__(
        self,
        network: Network,
        lower: np.ndarray,
        upper: np.ndarray,
        start: tuple[Arrays, Arrays],
        rules: Sequence[str],
        clock: Interruptible,
        executor: Executor | None = None,
    ) -> None:
        self.network, self.start, self.roots = network, start, len(lower)
        self.rules, self.clock, self.executor = rules, clock, executor
        n, size = network.n_inputs, [node.size for node in network.nodes]
        self._names = [[f"{s}{i}" for i in range(len(size))] for s in ("low", "high")]
        widths: dict[str, int | None] = {
            name: w for names in self._names for name, w in zip(names, size)
        }
        self.pool = Pool({"root": int}, lower=n, upper=n, root=None, **widths)
        self.watched = list(self._watched())
        self.seen_low: dict[int, np.ndarray] = {}
        self.seen_high: dict[int, np.ndarray] = {}
        self._sample(lower, upper)

    def _watched(self) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        network, readers = self.network, self.network.readers()
        first = {i for i, _ in network.input_slices()}
        for i, node in enumerate(network.nodes):
            if isinstance(node, Affine) and not all(s in first for s in node.sources):
                ranges = self.start[0][i], self.start[1][i]
                needed = needed_entries(network, i, readers[i], *ranges)
                rows = np.flatnonzero(needed.any(axis=0))
                if len(rows):
                    yield i, rows, needed[:, rows]

    def _sample(self, lower: np.ndarray, upper: np.ndarray) -> None:
        """See at random points how far the watched neurons go over each root."""
        if not self.watched:
            return
        more = np.random.default_rng(0).random((SETTINGS.samples, self.network.n_inputs))
        for i, rows, _ in self.watched:
            self.seen_low[i] = np.empty((self.roots, len(rows)))
            self.seen_high[i] = np.empty((self.roots, len(rows)))
        for r, (low, high) in enumerate(zip(lower, upper)):
            values = self.network.activations(np.clip(low + more * (high - low), low, high))
            for i, rows, _ in self.watched:
                seen = values[i][:, rows]
                self.seen_low[i][r] = seen.min(axis=0)
                self.seen_high[i][r] = seen.max(axis=0)

    def __len__(self) -> int:
        return len(self.pool)

    @property
    def wanted(self) -> np.ndarray:
        """The roots over which a neuron is watched: boxes tell nothing of the others, (R,)."""
        watched = [whose.any(axis=1) for _, _, whose in self.watched]
        return np.logical_or.reduce([np.zeros(self.roots, dtype=bool), *watched])

    @property
    def counts(self) -> np.ndarray:
        """How many boxes each cover has, (R,)."""
        return np.bincount(self.pool["root"], minlength=self.roots)

    @property
    def bounds(self) -> list[Arrays]:
        """Lower, then upper bounds of every node over each box."""
        return [[self.pool[name] for name in names] for names in self._names]

    def add(
        self,
        lower: np.ndarray,
        upper: np.ndarray,
        roots: np.ndarray,
        parents: np.ndarray | None = None,
    ) -> bool:
        """Bound new boxes, which replace their parents; all of them or none.

        Parameters
        ----------
        roots : (N,) int array
            The root that each box is a part of.
        parents : (N,) int array, optional
            For each new box the one it is a part of; both parts must be there. None for
            the first boxes.
        """
        order = np.argsort(roots, kind="stable")
        chunks = [
            (lower[some], upper[some], self._known(roots[some], parents, some), groups)
            for some, groups in self._chunks(roots, order)
        ]
        found: dict[int, tuple[Arrays, Arrays]] = dict(
            run_chunks(
                boxes_chunk, self.network, tuple(self.rules), chunks, self.executor,
                self.clock, "boxes"
            )
        )  # fmt: skip
        if len(found) < len(chunks):
            return False  # ended early: a union with holes bounds nothing
        back = np.empty(len(order), dtype=int)
        back[order] = np.arange(len(order))
        new = {
            name: np.concatenate([found[k][side][i] for k in range(len(chunks))])[back]
            for side, names in enumerate(self._names)
            for i, name in enumerate(names)
        }
        first = np.zeros(0, dtype=int) if parents is None else parents[: len(parents) // 2]
        fields = {"bound": np.zeros(len(lower)), "root": roots}
        self.pool.replace(first, lower=lower, upper=upper, **fields, **new)
        self._see_middles(0.5 * (lower + upper), roots, order)
        return True

    def _chunks(
        self, roots: np.ndarray, order: np.ndarray
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Numbers of new boxes to bound in one batch, and where each group begins.

        A group belongs to one root, and is the same whatever other roots there are.
        """
        size = SETTINGS.chunk
        ends = [*first_of_each(roots[order]).tolist(), len(order)]
        groups = [
            (k, min(k + size, end))
            for begin, end in pairwise(ends)
            for k in range(begin, end, size)
        ]
        while groups:
            begin, fitting = groups[0][0], 1
            while fitting < len(groups) and groups[fitting][1] - begin <= size:
                fitting += 1
            batch, groups = groups[:fitting], groups[fitting:]
            yield order[begin : batch[-1][1]], np.array([k for k, _ in batch]) - begin

    def _known(
        self, roots: np.ndarray, parents: np.ndarray | None, some: np.ndarray
    ) -> tuple[Arrays, Arrays]:
        """What bounds the nodes over new boxes: their parents' bounds, or their roots'."""
        sides: Sequence[Arrays] = self.start if parents is None else self.bounds
        which = roots if parents is None else parents[some]
        if parents is None and self.roots == 1:
            which = np.zeros(1, dtype=int)
        lows, highs = ([a[which] for a in side] for side in sides)
        return lows, highs

    def _see_middles(self, x: np.ndarray, roots: np.ndarray, order: np.ndarray) -> None:
        starts = first_of_each(roots[order])
        here = roots[order][starts]
        values = self.network.activations(x)
        for i, rows, _ in self.watched:
            v = values[i][order][:, rows]
            low, high = (f.reduceat(v, starts, axis=0) for f in (np.minimum, np.maximum))
            self.seen_low[i][here] = np.minimum(self.seen_low[i][here], low)
            self.seen_high[i][here] = np.maximum(self.seen_high[i][here], high)

    def union(self) -> tuple[Arrays, Arrays]:
        """Bounds of every node over each root, (R, size) arrays."""
        order = np.argsort(self.pool["root"], kind="stable")
        starts = first_of_each(self.pool["root"][order])
        lows, highs = self.bounds
        return (
            [np.minimum.reduceat(a[order], starts, axis=0) for a in lows],
            [np.maximum.reduceat(a[order], starts, axis=0) for a in highs],
        )

    def ranges(self, i: int) -> np.ndarray:
        """How far the watched neurons of a node were seen to go, never 0, (R, rows)."""
        seen: np.ndarray = self.seen_high[i] - self.seen_low[i]
        return np.maximum(seen, SETTINGS.least_range)

    def worst(self, room: np.ndarray) -> np.ndarray:
        """Numbers of the boxes to split, for each root at most ``room`` (R,), root by root.

        First come those that make up most of a neuron's gap, the older ones first where
        that is even; none that makes up nothing or is but a point.
        """
        roots = self.pool["root"]
        here = np.flatnonzero(room[roots] > 0)
        here = here[np.lexsort((self.pool["number"][here], roots[here]))]
        if not len(here):
            return here
        roots = roots[here]
        starts = first_of_each(roots)
        place = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(here))))
        score = np.zeros(len(here))
        lows, highs = self.bounds
        for i, rows, whose in self.watched:
            least = SETTINGS.open * self.ranges(i)
            for bounds, seen, sign in (
                (highs[i], self.seen_high[i], 1.0),
                (lows[i], self.seen_low[i], -1.0),
            ):
                excess = sign * (bounds[here][:, rows] - seen[roots])
                top = np.maximum.reduceat(excess, starts, axis=0)
                open_ = (top > least[roots[starts]]) & whose[roots[starts]]
                if open_.any():
                    part = excess / np.where(open_, top, np.inf)[place]
                    score = np.maximum(score, part.max(axis=1))
        order = np.lexsort((-score, roots))  # stable: the older ones first
        rank = np.arange(len(here)) - starts[place]
        wide = np.any(self.pool["upper"][here] > self.pool["lower"][here], axis=1)
        good = (rank < room[roots]) & (score[order] > 0) & wide[order]
        return here[order[good]]

    def steep(self, lows: Arrays, highs: Arrays, roots: np.ndarray) -> np.ndarray:
        """How much each input moves the watched neurons of some boxes, (N, n_inputs)."""
        total = np.zeros((len(lows[0]), self.network.n_inputs))
        for i, rows, whose in self.watched:
            g = absolute_gradient(self.network, lows, highs, i, rows)
            share = whose / self.ranges(i)
            total += (g * share[roots][:, :, None]).sum(axis=1)
        return total

    def split(self, which: np.ndarray) -> bool:
        """Halve boxes along the input that moves the watched neurons most."""
        lower, upper = self.pool["lower"][which], self.pool["upper"][which]
        known, roots = self.bounds, self.pool["root"][which]
        steep = []
        for k in range(0, len(which), SETTINGS.chunk):
            some = which[k : k + SETTINGS.chunk]
            lows, highs = ([a[some] for a in side] for side in known)
            steep.append(self.steep(lows, highs, roots[k : k + len(some)]))
        axis = np.argmax((np.concatenate(steep) + 1e-300) * (upper - lower), axis=1)
        each = np.arange(len(which))
        middle = 0.5 * (lower[each, axis] + upper[each, axis])
        return self.add(
            *halves(lower, upper, axis, middle),
            np.concatenate([roots, roots]),
            np.concatenate([which, which]),
        )

    def begin(self, lower: np.ndarray, upper: np.ndarray, count: int) -> bool:
        """Add even covers of the roots, of at most ``count`` boxes each."""
        steep = self.steep(*self.start, np.arange(self.roots))
        first = [even_cover(a, b, count, w) for a, b, w in zip(lower, upper, steep)]
        roots = np.repeat(np.arange(self.roots), [len(lows) for lows, _ in first])
        lows, highs = (np.concatenate(side) for side in zip(*first))
        return self.add(lows, highs, roots)

    def refine(self, count: int) -> None:
        """Split boxes in rounds until every cover has about ``count``, or nothing gains."""
        going = True
        while going:
            n = self.counts
            rooms = np.minimum(count - n, np.maximum(1, (SETTINGS.growth * n).astype(int)))
            which = self.worst(rooms)
            going = len(which) > 0 and not self.clock.expired() and self.split(which)


def first_of_each(sorted_: np.ndarray) -> np.ndarray:
    """Where each number of a sorted array is met first."""
    new = np.ones(len(sorted_), dtype=bool)
    new[1:] = sorted_[1:] != sorted_[:-1]
    return np.flatnonzero(new)
