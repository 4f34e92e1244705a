"""Splitting and bounding subproblems among rows, here or on a worker.

Subproblems are split on a neuron or a column, the children's boxes are tightened by rows without
outputs, their ranges by linear bounds, and their multipliers are ascended from their parents'.
"""

from __future__ import annotations

import math
import uuid
from dataclasses import dataclass

import numpy as np

from pyomo_relu.bounds.ascent import Pace
from pyomo_relu.bounds.pool import Parts
from pyomo_relu.bounds.tighten import tighten_boxes
from pyomo_relu.sides.row_bounds import Lower, Multipliers, RowBounds, Subproblems
from pyomo_relu.sides.row_branching import choose, inherit, split

#: So many numbers are tightened by rows at once (8 MB).
CHUNK = 2**20


@dataclass
class Bounded:
    """What became of subproblems that were bounded.

    Attributes
    ----------
    open : dict of arrays
        Fields of the pool: those that may hold less than the target.
    closed : float
        The least bound of what is done with.
    nodes : int
        Subproblems bounded.
    stuck : int array
        Of subproblems that were to be split: those with nothing left to split.
    """

    open: Parts
    closed: float
    nodes: int
    stuck: np.ndarray


class RowSplitter:
    """Splits and bounds subproblems.

    Parameters
    ----------
    bounds : RowBounds

    Attributes
    ----------
    fingerprint : str
        The name under which a worker keeps it.
    """

    def __init__(self, bounds: RowBounds) -> None:
        self.bounds, self.fingerprint = bounds, uuid.uuid4().hex
        t = bounds.terms
        # Rows without outputs tighten boxes.
        alone = ~(t.of_outputs != 0).any(axis=1)
        up, down = alone & np.isfinite(t.upper), alone & np.isfinite(t.lower)
        self._a = np.concatenate([t.of_columns[up], -t.of_columns[down]])
        self._b = np.concatenate([t.upper[up], -t.lower[down]])

    def split(self, parts: Parts, level: float, target: float) -> Bounded:
        """Split each subproblem and bound the children.

        Parameters
        ----------
        parts : dict of arrays
            Fields of the pool.
        level : float
            What is to be proved of the children next.
        target : float
            Children whose bound reaches it are done with.
        """
        some, m, parent = subproblems_of(parts)
        on = choose(self.bounds, some, m, level)
        stuck = (on.neuron < 0) & (on.column < 0)
        go = ~stuck
        on = on.take(go)
        children = split(self.bounds, some.take(go), on)
        m = inherit(self.bounds, m.take(go), on)
        parent = np.concatenate([parent[go]] * 2)
        keep = ~self.shrink(children)
        children, m, parent = children.take(keep), m.take(keep), parent[keep]
        st = self.bounds.settings
        found = self.bound(children, m, parent, st.later, level, target)
        found.stuck = np.flatnonzero(stuck)
        return found

    def shrink(self, some: Subproblems) -> np.ndarray:
        """Tighten boxes by rows without outputs in place; which subproblems are empty."""
        whole = self.bounds.terms.whole
        empty = np.asarray((some.low > some.high).any(axis=1))
        if not len(self._b):
            return empty
        n = max(1, CHUNK // self._a.size)
        for i in range(0, len(some), n):
            low, high = some.low[i : i + n], some.high[i : i + n]
            a = np.broadcast_to(self._a, (len(low), *self._a.shape))
            b = np.broadcast_to(self._b, (len(low), len(self._b)))
            empty[i : i + n] |= tighten_boxes(low, high, a, b, whole)
        return empty

    def bound(
        self,
        some: Subproblems,
        start: Multipliers,
        parent: np.ndarray,
        steps: int,
        level: float,
        target: float,
        pace: Pace | None = None,
    ) -> Bounded:
        """Bound subproblems, and cut off their boxes what costs more than the target."""
        nodes, closed = len(some), math.inf
        keep = ~self.bounds.tighten(some)
        some, start, parent = some.take(keep), start.take(keep), parent[keep]
        m, bound = start, parent
        if len(some):
            m = self.bounds.ascend(some, start, steps, level, pace)
            value, found = self.bounds.lower(some, m)
            bound = np.maximum(value, parent)
            gone = bound >= target
            # No subproblem without a point closes anything.
            closed = float(bound[gone & np.isfinite(bound)].min(initial=math.inf))
            left = np.flatnonzero(~gone)
            if math.isfinite(target):
                left = left[~self._cut(some, found, m.share[:, 0], left, target)]
                closed = min(closed, target)
            some, m, bound = some.take(left), m.take(left), bound[left]
        return Bounded(parts_of(some, m, bound), closed, nodes, np.zeros(0, dtype=int))

    def _cut(
        self,
        some: Subproblems,
        found: Lower,
        share: np.ndarray,
        at: np.ndarray,
        target: float,
    ) -> np.ndarray:
        """Cut off boxes what costs more than the target, in place; which are empty."""
        a = found.slopes[at][:, None]
        b = (share[at] * target - found.const[at] + found.error[at])[:, None]
        low, high = some.low[at], some.high[at]
        empty = tighten_boxes(low, high, a, b, self.bounds.terms.whole)
        some.low[at], some.high[at] = low, high
        return empty


def parts_of(some: Subproblems, m: Multipliers, bound: np.ndarray) -> Parts:
    """Fields of the pool, in the precision that it keeps."""
    single = {"alpha": m.alpha, "beta": m.beta, "prices": m.prices, "share": m.share}
    fields = {name: a.astype(np.float32) for name, a in single.items()}
    own = {"low": some.low, "high": some.high, "fixed": some.fixed, "stored": some.stored}
    return {"bound": bound, **own, **fields}


def subproblems_of(parts: Parts) -> tuple[Subproblems, Multipliers, np.ndarray]:
    """What the fields of a pool stand for, and the bounds."""
    some = Subproblems(*(parts[k] for k in ("low", "high", "fixed", "stored")))
    m = Multipliers(*(parts[k] for k in ("alpha", "beta", "prices", "share")))
    return some, m, parts["bound"]


def split_chunk(
    splitter: RowSplitter, token: str, aims: tuple[float, float], parts: Parts
) -> Bounded:
    """What a worker runs; ``aims`` are the level and the target."""
    return splitter.split(parts, *aims)
