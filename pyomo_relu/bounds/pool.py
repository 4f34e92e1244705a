"""The open boxes as arrays, taken best first in batches."""

from __future__ import annotations

import numpy as np


class BoxPool:
    """Boxes that are neither pruned nor split.

    Parameters
    ----------
    dtypes : dict, optional
        Of fields that are not of float64.
    **widths
        For each field, how many numbers a box has: ``lower=3`` is an (N, 3) array,
        None stands for a plain (N,) one. Boxes are ordered by the field ``bound``.
    """

    def __init__(self, dtypes: dict[str, type] | None = None, **widths: int | None) -> None:
        self._room, self.count = 256, 0
        self._fields: dict[str, np.ndarray] = {
            name: np.empty(
                self._room if w is None else (self._room, w),
                (dtypes or {}).get(name, float),
            )
            for name, w in {"bound": None, **widths}.items()
        }

    def __len__(self) -> int:
        return self.count

    @property
    def bounds(self) -> np.ndarray:
        """The bound of each box."""
        return self._fields["bound"][: self.count]

    def push(self, **arrays: np.ndarray) -> None:
        """Add boxes; every field must be given."""
        new = len(arrays["bound"])
        if self.count + new > self._room:
            self._room = max(2 * self._room, self.count + new)
            for name, old in self._fields.items():
                grown = np.empty((self._room, *old.shape[1:]), old.dtype)
                grown[: self.count] = old[: self.count]
                self._fields[name] = grown
        for name, field in self._fields.items():
            field[self.count : self.count + new] = arrays[name]
        self.count += new

    def take(self, k: int) -> dict[str, np.ndarray]:
        """Remove and return the ``k`` boxes with the least bounds, least first."""
        k = min(k, self.count)
        order = (
            np.argpartition(self.bounds, k - 1)[:k]
            if k < self.count
            else (np.arange(self.count))
        )
        order = order[np.argsort(self.bounds[order], kind="stable")]
        found = {name: field[order].copy() for name, field in self._fields.items()}
        self._remove(order)
        return found

    def take_last(self, k: int) -> dict[str, np.ndarray]:
        """Remove and return the ``k`` boxes pushed last, the last one first."""
        left = max(self.count - k, 0)
        some = slice(left, self.count)
        found = {name: field[some][::-1].copy() for name, field in self._fields.items()}
        self.count = left
        return found

    @property
    def nbytes(self) -> int:
        """Memory of the boxes that are there."""
        return sum(field[: self.count].nbytes for field in self._fields.values())

    def prune(self, cutoff: float) -> float:
        """Drop boxes whose bound reaches ``cutoff``; the least bound dropped, or inf."""
        out = np.flatnonzero(self.bounds >= cutoff)
        if not len(out):
            return np.inf
        least = float(self.bounds[out].min())
        self._remove(out)
        return least

    def _remove(self, order: np.ndarray) -> None:
        keep = np.ones(self.count, dtype=bool)
        keep[order] = False
        left = self.count - len(order)
        # Boxes from the end fill the holes, so the cost is that of what is removed.
        holes = np.flatnonzero(~keep[:left])
        fill = left + np.flatnonzero(keep[left:])
        for field in self._fields.values():
            field[holes] = field[fill]
        self.count = left
