"""Where the attack begins: points seen so far, and corners at which bounds are attained.

Few sets share all of their points: what is good for one is often good for another. With
many sets that would be sets x sets points, so each begins from its own, and the sets are
attacked in blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from pyomo_relu.verification.regions import Region

#: So many points are shared by all sets: twelve sets with a point and four corners each
#: share theirs, so those of ten classes do.
SHARED = 64

#: Numbers that the points of one block of sets may hold (32 MiB; the attack keeps three
#: such arrays).
BLOCK = 2**22


class Block(NamedTuple):
    """Sets that are attacked together, and where they begin.

    Attributes
    ----------
    sets : (k,) int array
    starts : (N, n_inputs) array or None
        For each of them.
    own : list of k (N, n_inputs) arrays or None
        For each of them alone.
    """

    sets: np.ndarray
    starts: np.ndarray | None
    own: list[np.ndarray] | None


class Starts:
    """The points of each unsafe set of a region.

    Parameters
    ----------
    region : Region
    """

    def __init__(self, region: Region) -> None:
        self.region = region
        self.points: dict[int, np.ndarray] = {}
        self._corners: dict[int, list[np.ndarray]] = {}

    def add_corners(self, sets: np.ndarray, slopes: np.ndarray) -> None:
        """Note where linear functions below rows of sets are least.

        Parameters
        ----------
        sets : (q,) int array
        slopes : (q, n_inputs) array
        """
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

    def count(self, d: int) -> int:
        """How many points :meth:`of` has."""
        return 1 + len(self._corners.get(d, ()))

    def blocks(self, sets: np.ndarray, others: int) -> Iterator[Block]:
        """The sets in blocks, in their order.

        Parameters
        ----------
        sets : (k,) int array
        others : int
            Points besides for each set.
        """
        counts = [self.count(d) for d in sets.tolist()]
        together = sum(counts) <= SHARED
        starts = None
        if together and len(sets):
            starts = _distinct(np.vstack([self.of(d) for d in sets.tolist()]))
        most = others + (max(counts, default=0) if starts is None else len(starts))
        size = max(1, BLOCK // (most * max(1, self.region.size)))
        for k in range(0, len(sets), size):
            some = sets[k : k + size]
            own = None if together else [self.of(d) for d in some.tolist()]
            yield Block(some, starts, own)


def _distinct(points: np.ndarray) -> np.ndarray:
    """Points without repetitions, in their order."""
    return points[np.sort(np.unique(points, axis=0, return_index=True)[1])]
