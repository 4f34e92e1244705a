"""Branch and bound on sides of neurons and on columns, for a network among rows.

As :class:`~pyomo_relu.sides.tree.SideTree`, but that each subproblem has a box of its own,
which the rows and the target tighten, and integers and inputs are split, too. What has few
undecided neurons is left to the caller, who solves programs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pyomo_relu.bounds.parallel import Crew
from pyomo_relu.bounds.pool import Parts, Pool, in_chunks, together
from pyomo_relu.sides.row_bounds import RowBounds, Subproblems
from pyomo_relu.sides.row_splitter import RowSplitter, split_chunk, subproblems_of

#: Of progress bars.
TITLE = "sides among rows"


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
    solve : callable
        Solves subproblems by a program each: called with them and the target, returns a
        :class:`Leaf` for each.
    crew : Crew, optional
        Who splits the chunks of a round; this process if left out.

    Attributes
    ----------
    pool : Pool
        The open subproblems.
    nodes, leaves : int
        Subproblems bounded, and programs solved.
    """

    def __init__(
        self,
        bounds: RowBounds,
        solve: Callable[[Subproblems, float], Sequence[Leaf]],
        crew: Crew | None = None,
    ) -> None:
        self.bounds, self.solve = bounds, solve
        self.crew, self.splitter = crew or Crew(), RowSplitter(bounds)
        self.nodes = self.leaves = 0
        self._level = -math.inf
        f, k = len(bounds.terms.columns), bounds.count
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
            prices=bounds.terms.count,
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
        st, parent = self.bounds.settings, np.array([-math.inf])
        if not self.splitter.shrink(whole)[0]:
            found = self.splitter.bound(
                whole, first, parent, st.first, math.inf, target, st.pace
            )
            self.nodes = found.nodes
            self.pool.close(found.closed)
            self.pool.push(**found.open)
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
        # Where programs are rare, all time goes to bounds, and wide rounds are as good.
        rare = self.leaves * st.rare < self.nodes
        batch = st.dive if dive else st.batch * (st.wide if rare else 1)
        self.pool.prune(target)
        if not len(self):
            return
        level = self._level_below(target)
        with self.pool.round(batch, target, last) as parts:
            if len(parts["bound"]):
                del parts["number"]
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
        some, _, bound = subproblems_of(parts)
        st, k = self.bounds.settings, self.bounds.count
        open_ = ((some.stored[:, :k] < 0) & (some.stored[:, k:] > 0)).sum(axis=1)
        few = open_ <= st.leaf
        go = ~self._solve(some, bound, few, target)
        if not go.any():
            return
        left = {name: a[go] for name, a in parts.items()}
        chunks, tried = in_chunks(left, st.chunk), in_chunks({"bound": few[go]}, st.chunk)
        aims = level, target
        found = self.crew.results(split_chunk, self.splitter, aims, chunks, TITLE)
        children = []
        for chunk, before, got in zip(chunks, tried, found):
            if got is None:  # the search ended meanwhile: it stays as it was
                children.append(chunk)
                continue
            self.nodes += got.nodes
            self.pool.close(got.closed)
            children.append(got.open)
            # What can't be split has had its program, or has it now: that is its last word.
            stuck = np.isin(np.arange(len(chunk["bound"])), got.stuck)
            some, _, bound = subproblems_of(chunk)
            self._solve(some, bound, stuck & ~before["bound"], target)
            self.pool.close(bound[stuck])
        whole = together(children)
        order = np.argsort(-whole["bound"], kind="stable")
        self.pool.push(**{name: a[order] for name, a in whole.items()})

    def _solve(
        self, some: Subproblems, bound: np.ndarray, which: np.ndarray, target: float
    ) -> np.ndarray:
        """Solve some subproblems and raise their bounds; which are done with."""
        done = np.zeros(len(bound), dtype=bool)
        at = np.flatnonzero(which)
        if not len(at):
            return done
        for i, leaf in zip(at, self.solve(some.take(at), target), strict=True):
            self.leaves += 1
            bound[i] = max(bound[i], leaf.bound)
            done[i] = leaf.done
        self.pool.close(bound[done])
        return done
