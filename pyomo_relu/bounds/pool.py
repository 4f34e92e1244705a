"""Branch and bound in rounds: open parts as arrays, cut and bounded many at a time.

All searches of the package keep their open parts in a :class:`Pool`, take some of them
for a :meth:`Pool.round`, and push what is left of the children; they differ in what a
part is and in how it is bounded. Where the parts must go on covering the whole, children
stand in for their parents: :meth:`Pool.replace`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from pyomo_relu.network import Affine, Max, Network, PiecewiseLinear, Smooth

#: Parts that a pool has room for at first; the room doubles when it is full.
ROOM = 256

Parts = dict[str, np.ndarray]


class Pool:
    """Parts of a problem, a row of every array each, with what is known of the rest.

    Parameters
    ----------
    dtypes : mapping, optional
        The types of fields that are not of float64.
    **widths
        For each field the shape of a part's row: ``lower=3`` is an (N, 3) array, None
        stands for a plain (N,) one. There are always the plain fields ``bound``, below
        which no point of the part costs, and ``number``, in the order of the parts' birth.

    Attributes
    ----------
    floor : float
        The least bound of what is done with.
    """

    def __init__(
        self,
        dtypes: Mapping[str, type] | None = None,
        /,
        **widths: int | tuple[int, ...] | None,
    ) -> None:
        self.count, self.floor = 0, math.inf
        # The least bound in the round that is under way; nothing is known before any.
        self._taken = -math.inf
        self._born = 0
        self._fields: Parts = {}
        kinds = {"number": int, **(dtypes or {})}
        for name, width in {"bound": None, "number": None, **widths}.items():
            shape = () if width is None else np.atleast_1d(width)
            self._fields[name] = np.empty((ROOM, *shape), kinds.get(name, float))

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, name: str) -> np.ndarray:
        """One field of all parts; a view until parts are added or removed."""
        return self._fields[name][: self.count]

    def __getstate__(self) -> dict[str, Any]:
        """Parts without the room for more."""
        fields = {name: field[: self.count] for name, field in self._fields.items()}
        return {**self.__dict__, "_fields": fields}

    @property
    def bound(self) -> float:
        """A bound of the whole: the least one of all parts, done with, open or taken."""
        return min(self.floor, self._taken, float(self["bound"].min(initial=math.inf)))

    @property
    def nbytes(self) -> int:
        """Memory of the parts that are there."""
        return sum(field[: self.count].nbytes for field in self._fields.values())

    # ------------------------------------------------------------------- in and out
    def push(self, **arrays: np.ndarray) -> None:
        """Add parts; every field must be given."""
        self.replace(np.zeros(0, dtype=int), **arrays)

    def replace(self, which: np.ndarray, **arrays: np.ndarray) -> None:
        """Write the first of some parts over those at ``which``, the others behind all."""
        new, n = len(arrays["bound"]), len(which)
        total = self.count + new - n
        arrays["number"] = np.arange(self._born, self._born + new)
        self._born += new
        for name, field in self._fields.items():
            if total > len(field):
                grown = np.empty(
                    (max(2 * len(field), total), *field.shape[1:]), field.dtype
                )
                grown[: self.count] = field[: self.count]
                self._fields[name] = field = grown
            field[which] = arrays[name][:n]
            field[self.count : total] = arrays[name][n:]
        self.count = total

    def least(self, k: int) -> np.ndarray:
        """Which ``k`` parts have the least bounds, least first, the older of equal ones."""
        bounds, order = self["bound"], np.arange(self.count)
        if k < self.count:
            order = np.flatnonzero(bounds <= np.partition(bounds, k - 1)[k - 1])
        return order[np.lexsort((self["number"][order], bounds[order]))][:k]

    def part(self, which: np.ndarray) -> Pool:
        """A pool of copies of some parts, for work elsewhere; :meth:`replace` brings it back."""
        found = copy.copy(self)
        found._fields = {name: field[which] for name, field in self._fields.items()}
        found.count = len(which)
        return found

    def arrays(self) -> Parts:
        """All fields that :meth:`replace` takes."""
        return {name: self[name] for name in self._fields if name != "number"}

    def take(self, k: int, last: bool = False) -> Parts:
        """Remove and return ``k`` parts: the least bounds first, or the last ones first."""
        if last:
            order = np.arange(self.count - 1, max(self.count - k, 0) - 1, -1)
        else:
            order = self.least(k)
        found = {name: field[order] for name, field in self._fields.items()}
        self._remove(order)
        return found

    def prune(self, cutoff: float) -> None:
        """Be done with the parts whose bound reaches ``cutoff``."""
        out = np.flatnonzero(self["bound"] >= cutoff)
        self.close(self["bound"][out])
        self._remove(out)

    def close(self, bounds: np.ndarray | float) -> None:
        """Note the bounds of parts that are done with."""
        self.floor = min(self.floor, float(np.min(bounds, initial=math.inf)))

    def _remove(self, order: np.ndarray) -> None:
        if not len(order):
            return
        keep = np.ones(self.count, dtype=bool)
        keep[order] = False
        left = self.count - len(order)
        # Parts from the end fill the holes, so the cost is that of what is removed.
        holes = np.flatnonzero(~keep[:left])
        fill = left + np.flatnonzero(keep[left:])
        for field in self._fields.values():
            field[holes] = field[fill]
        self.count = left

    # ------------------------------------------------------------------------ rounds
    def begin(self) -> None:
        """From here on :attr:`bound` is that of the parts there are: they are all."""
        self._taken = math.inf

    @contextmanager
    def round(
        self, k: int, cutoff: float = math.inf, last: bool = False
    ) -> Iterator[Parts]:
        """Take parts whose bounds are below ``cutoff``; inside, their children go back.

        A round that is interrupted leaves a valid :attr:`bound`: that of what was taken
        still counts.
        """
        self.prune(cutoff)
        some = self.take(k, last)
        self._taken = float(some["bound"].min(initial=math.inf))
        yield some
        self._taken = math.inf


def in_chunks(parts: Parts, size: int) -> list[Parts]:
    """Parts in groups of ``size``, in order; the last may be smaller."""
    spans = [slice(k, k + size) for k in range(0, len(parts["bound"]), size)]
    return [{name: field[s] for name, field in parts.items()} for s in spans]


def together(groups: Sequence[Parts]) -> Parts:
    """The parts of one or more groups, in order."""
    return {name: np.concatenate([g[name] for g in groups]) for name in groups[0]}


def halves(
    lower: np.ndarray,
    upper: np.ndarray,
    axis: np.ndarray,
    at: np.ndarray,
    whole: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Cut boxes (N, n) in two along one axis each, all first halves before all second.

    Parameters
    ----------
    axis, at : (N,) arrays
    whole : (N,) bool array, optional
        Where the second half begins at the next integer.
    """
    each = np.arange(len(axis))
    end, begin = upper.copy(), lower.copy()
    end[each, axis] = at
    begin[each, axis] = at if whole is None else np.where(whole, at + 1.0, at)
    return np.concatenate([lower, begin]), np.concatenate([end, upper])


class Inherited:
    """Bounds of hidden pre-activations as (N, 2 h) rows, which children inherit.

    Attributes
    ----------
    hidden : list of int
        Affine nodes that a nonlinear one reads.
    width : int
        How many numbers ``h`` they have in all; lower bounds come before upper ones.
    """

    def __init__(self, network: Network) -> None:
        self.nodes, readers = network.nodes, network.readers()
        self.hidden = [
            i
            for i, node in enumerate(self.nodes)
            if isinstance(node, Affine)
            and any(
                isinstance(self.nodes[r], (PiecewiseLinear, Smooth, Max))
                for r in readers[i]
            )
        ]
        sizes = [self.nodes[i].size for i in self.hidden]
        self.spans = np.concatenate([[0], np.cumsum(sizes)]).astype(int)
        self.width = int(self.spans[-1])

    def start(self) -> np.ndarray:
        """What is known before any box: nothing, (1, 2 h)."""
        return np.repeat([[-np.inf, np.inf]], self.width, axis=1)

    def by_node(self, stored: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """One array for each node of the network, infinite where none is stored."""
        none = np.full((1, 1), -np.inf)
        lows, highs = [none] * len(self.nodes), [-none] * len(self.nodes)
        for i, a, b in zip(self.hidden, self.spans, self.spans[1:]):
            lows[i] = stored[:, a:b]
            highs[i] = stored[:, self.width + a : self.width + b]
        return lows, highs

    def stored(
        self, lows: list[np.ndarray], highs: list[np.ndarray], count: int
    ) -> np.ndarray:
        """The rows of ``count`` boxes, from bounds of every node."""
        found = [
            np.zeros((count, 0)),
            *(side[i] for side in (lows, highs) for i in self.hidden),
        ]
        return np.concatenate(found, axis=1)
