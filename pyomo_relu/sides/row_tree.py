"""Branch and bound on sides of neurons and on columns, for a network among rows.

As :class:`~pyomo_relu.sides.tree.SideTree`, but that each subproblem has a box of its own,
which the rows and the target tighten, and integers and inputs are split, too. What has few
undecided neurons is left to the caller, who solves a program.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pyomo_relu.bounds.pool import Parts, Pool
from pyomo_relu.bounds.tighten import tighten_boxes
from pyomo_relu.sides.row_bounds import Lower, Multipliers, RowBounds, Subproblems
from pyomo_relu.sides.row_branching import choose, inherit, split

#: So many numbers are tightened by rows at once (8 MB).
CHUNK = 2**20


@dataclass
class Leaf:
    """What a program says of a subproblem.

    Attributes
    ----------
    bound : float
        Valid.
    done : bool
        Whether the bound is the last word; else it is split as far as it can be.
    """

    bound: float
    done: bool


class RowTree:
    """Subproblems that may hold less than a target.

    Parameters
    ----------
    bounds : RowBounds
    leaf : callable
        Solves one subproblem by a program: called with it (one row of each array) and the
        target, returns a :class:`Leaf`.

    Attributes
    ----------
    pool : Pool
        The open subproblems.
    nodes, leaves : int
        Subproblems bounded, and programs solved.
    """

    def __init__(
        self, bounds: RowBounds, leaf: Callable[[Subproblems, float], Leaf]
    ) -> None:
        self.bounds, self.leaf = bounds, leaf
        self.nodes = self.leaves = 0
        self._level = -math.inf
        t, k = bounds.terms, bounds.count
        f = len(t.columns)
        # Rows without outputs tighten boxes.
        alone = ~(t.of_outputs != 0).any(axis=1)
        up, down = alone & np.isfinite(t.upper), alone & np.isfinite(t.lower)
        self._a = np.concatenate([t.of_columns[up], -t.of_columns[down]])
        self._b = np.concatenate([t.upper[up], -t.lower[down]])
        kinds = {
            "fixed": np.int8,
            **dict.fromkeys(("alpha", "beta", "prices", "share"), np.float32),
        }
        self.pool = Pool(
            kinds,
            low=f,
            high=f,
            fixed=k,
            stored=2 * k,
            alpha=k,
            beta=k,
            prices=t.count,
            share=1,
        )

    def __len__(self) -> int:
        return len(self.pool)

    @property
    def bound(self) -> float:
        """A valid lower bound of the cost."""
        return self.pool.bound

    def start(self, target: float = math.inf, prices: np.ndarray | None = None) -> None:
        """Bound the whole.

        Parameters
        ----------
        target : float
        prices : (rows,) array, optional
            Multipliers of the rows to start from, in their units.
        """
        whole = self.bounds.whole()
        first = self.bounds.first(whole)
        if prices is not None:
            first.prices = self.bounds.terms.valid(prices[None])
        steps = self.bounds.settings.first
        if not self._shrink(whole)[0]:
            self._add(whole, first, np.array([-math.inf]), steps, math.inf, target)
        self.pool.begin()

    def step(self, target: float, dive: bool = False) -> None:
        """One round: split the subproblems with the least bounds.

        Parameters
        ----------
        target : float
            Subproblems whose bound reaches it are done with.
        dive : bool
            Split a few of the last ones instead, which soon leads to programs and points.
        """
        st = self.bounds.settings
        last = dive or self.pool.nbytes > st.most_bytes
        batch = st.dive if dive else st.batch
        self.pool.prune(target)
        if not len(self):
            return
        level = self._level_below(target)
        with self.pool.round(batch, target, last) as parts:
            if len(parts["bound"]):
                self._split(parts, level, target)

    def _level_below(self, target: float) -> float:
        """What is proved of all subproblems next, at most the target."""
        bound = self.bound
        if not math.isfinite(target) or not math.isfinite(bound):
            return target
        if bound >= self._level or self._level > target:
            missing = target - bound
            st = self.bounds.settings
            near = missing <= st.near * abs(target)
            self._level = target if near else bound + st.rise * missing
        return self._level

    def _split(self, parts: Parts, level: float, target: float) -> None:
        some = Subproblems(*(parts[k] for k in ("low", "high", "fixed", "stored")))
        m = Multipliers(*(parts[k] for k in ("alpha", "beta", "prices", "share")))
        bound = parts["bound"]
        k = self.bounds.count
        open_ = ((some.stored[:, :k] < 0) & (some.stored[:, k:] > 0)).sum(axis=1)
        on = choose(self.bounds, some, m, level)
        stuck = (on.neuron < 0) & (on.column < 0)
        few = stuck | (open_ <= self.bounds.settings.leaf)
        go = np.ones(len(bound), dtype=bool)
        for i in np.flatnonzero(few):
            leaf = self.leaf(some.take(np.array([i])), target)
            self.leaves += 1
            bound[i] = max(bound[i], leaf.bound)
            go[i] = not (leaf.done or stuck[i])
            if not go[i]:
                self.pool.close(bound[i])
        if not go.any():
            return
        on = on.take(go)
        children = split(self.bounds, some.take(go), on)
        m = inherit(self.bounds, m.take(go), on)
        parent = np.concatenate([bound[go]] * 2)
        keep = ~self._shrink(children)
        if keep.any():
            steps = self.bounds.settings.later
            children, m, parent = children.take(keep), m.take(keep), parent[keep]
            self._add(children, m, parent, steps, level, target)

    def _shrink(self, some: Subproblems) -> np.ndarray:
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

    def _add(
        self,
        some: Subproblems,
        start: Multipliers,
        parent: np.ndarray,
        steps: int,
        level: float,
        target: float,
    ) -> None:
        """Bound subproblems, and keep what may hold less than the target."""
        self.nodes += len(some)
        keep = ~self.bounds.tighten(some)
        some, start, parent = some.take(keep), start.take(keep), parent[keep]
        if not len(some):
            return
        st = self.bounds.settings
        pace = st.pace if self.nodes == 1 else st.later_pace
        m = self.bounds.ascend(some, start, steps, level, pace)
        value, found = self.bounds.lower(some, m)
        bound = np.maximum(value, parent)
        gone = bound >= target
        self.pool.close(bound[gone & np.isfinite(bound)])
        left = np.flatnonzero(~gone)
        if math.isfinite(target):
            left = left[~self._cut(some, found, m.share[:, 0], left, target)]
        order = left[np.argsort(-bound[left], kind="stable")]
        some, m = some.take(order), m.take(order)
        self.pool.push(
            bound=bound[order], low=some.low, high=some.high, fixed=some.fixed,
            stored=some.stored, alpha=m.alpha, beta=m.beta, prices=m.prices,
            share=m.share,
        )  # fmt: skip

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
        self.pool.close(target)
        return empty
