"""Places of numbers in sorted rows, a row of its own for each unit."""

from __future__ import annotations

import numpy as np


class SortedRows:
    """Increasing numbers for each unit, found by bisection of all at once.

    Parameters
    ----------
    rows : (size, k) array
        Each row increases; what follows its last number is NaN.
    """

    def __init__(self, rows: np.ndarray) -> None:
        size, k = rows.shape
        self.steps = [2**p for p in reversed(range(k.bit_length()))]
        # So many that no step leaves the row; comparisons with NaN are false.
        padded = np.full((size, 2 ** k.bit_length() - 1), np.nan)
        padded[:, :k] = rows
        self._flat = padded.ravel()
        self._start = np.arange(size) * padded.shape[1] - 1

    def count_below(self, x: np.ndarray) -> np.ndarray:
        """How many numbers of its unit's row are less than each entry of (..., size) ``x``."""
        return self._count(x, np.less)

    def count_to(self, x: np.ndarray) -> np.ndarray:
        """How many are less than or equal to it."""
        return self._count(x, np.less_equal)

    def _count(self, x: np.ndarray, compare: np.ufunc) -> np.ndarray:
        place = np.broadcast_to(self._start, np.shape(x))
        for step in self.steps:
            passed = compare(self._flat.take(place + step), x)
            place = place + step * passed
        return place - self._start


class Extremes:
    """Least and greatest of neighbours in rows, for any stretch of them at once.

    Extremes of all stretches of 1, 2, 4, ... neighbours are kept; any stretch is the union of
    two of these.

    Parameters
    ----------
    least, greatest : (size, k) arrays
        A row of numbers for each unit, whose extremes are asked for.
    """

    def __init__(self, least: np.ndarray, greatest: np.ndarray) -> None:
        size, k = least.shape
        none = np.full((size, 1), np.inf)
        low, high = np.hstack([least, none]), np.hstack([greatest, -none])
        lows, highs = [low], [high]
        for level in range(k.bit_length() - 1):
            low, high = low.copy(), high.copy()
            reach = 2**level
            np.minimum(low[:, :-reach], lows[-1][:, reach:], out=low[:, :-reach])
            np.maximum(high[:, :-reach], highs[-1][:, reach:], out=high[:, :-reach])
            lows.append(low)
            highs.append(high)
        self._low, self._high = np.stack(lows).ravel(), np.stack(highs).ravel()
        self._level = size * (k + 1)
        self._row = np.arange(size) * (k + 1)
        self._none = self._row + k
        # The largest power of two that is no more than each number.
        self._power = np.array([max(n.bit_length() - 1, 0) for n in range(k + 1)])

    def over(self, first: np.ndarray, stop: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Least and greatest from place ``first`` to before ``stop``, (..., size) arrays.

        Where there is none they are infinite, the least above the greatest.
        """
        some = stop > first
        power = self._power.take(np.where(some, stop - first, 0))
        start = np.where(some, self._row + first, self._none) + power * self._level
        other = np.where(some, start + (stop - first) - 2**power, start)
        return (
            np.minimum(self._low.take(start), self._low.take(other)),
            np.maximum(self._high.take(start), self._high.take(other)),
        )
