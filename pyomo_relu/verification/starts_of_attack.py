"""Where the attack begins: points seen so far, and corners at which bounds are attained.

Few sets share all of their points: what is good for one is often good for another. With
many sets that would be sets x sets points, so each begins from its own, and the sets are
attacked in blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from pyomo_relu.verification.input_region import Region
from pyomo_relu.verification.verify_settings import VERIFY


class Block(NamedTuple):
    """Sets (k,) that are attacked together, and where they begin: from points (N, n) for
    each of them, or from k arrays of points, one for each set alone.
    """

    sets: np.ndarray
    starts: np.ndarray | None
    own: list[np.ndarray] | None


class Starts:
    """The points of each unsafe set of a region."""

    def __init__(self, region: Region) -> None:
        self.region = region
        self.points: dict[int, np.ndarray] = {}
        self._corners: dict[int, list[np.ndarray]] = {}

    def add_corners(self, sets: np.ndarray, slopes: np.ndarray) -> None:
        """Note where linear functions (q, n) below rows of sets (q,) are least."""
        # A corner is one bit for each input.
        for d, bits in zip(sets.tolist(), np.packbits(slopes > 0, axis=1)):
            self._corners.setdefault(d, []).append(bits)

    def of(self, d: int) -> np.ndarray:
        """The best point of a set, by default the centre, and its corners, (N, n)."""
        low, high = self.region.lower, self.region.upper
        first = self.points.get(d, 0.5 * (low + high))[None]
        corners = self._corners.get(d)
        if not corners:
            return first
        bits = np.unpackbits(np.array(corners), axis=1, count=len(low))
        return np.vstack([first, np.where(bits == 1, low, high)])

    def blocks(self, sets: np.ndarray, others: int) -> Iterator[Block]:
        """The sets in blocks, in their order; each has ``others`` points besides."""
        counts = [1 + len(self._corners.get(d, ())) for d in sets.tolist()]
        together = sum(counts) <= VERIFY.shared_points
        starts = None
        if together and len(sets):
            starts = _distinct(np.vstack([self.of(d) for d in sets.tolist()]))
        most = others + (max(counts, default=0) if starts is None else len(starts))
        size = max(1, VERIFY.block_numbers // (most * max(1, self.region.size)))
        for k in range(0, len(sets), size):
            some = sets[k : k + size]
            own = None if together else [self.of(d) for d in some.tolist()]
            yield Block(some, starts, own)


def _distinct(points: np.ndarray) -> np.ndarray:
    """Points without repetitions, in their order."""
    return points[np.sort(np.unique(points, axis=0, return_index=True)[1])]
