"""Branch and bound on sides of neurons and on columns, for networks among rows.

Where many inputs belong together, boxes of the inputs are hopeless, and a MIP solves a linear
program at each node. Here rows, sides and slopes have multipliers that are ascended for many
subproblems at once (:mod:`pyomo_relu.sides.row_tree`).
"""

from __future__ import annotations

import math

import numpy as np

from pyomo_relu.presolve.problem import Problem
from pyomo_relu.programs import HighsModel
from pyomo_relu.sides.row_bounds import SETTINGS, RowBounds, Subproblems
from pyomo_relu.sides.row_terms import RowTerms
from pyomo_relu.sides.row_tree import Leaf, RowTree
from pyomo_relu.solvers.global_search.cost_search import CrewSearch
from pyomo_relu.solvers.global_search.mip import BoxAnswer, BoxMIP, node_ranges
from pyomo_relu.solvers.global_search.row_leaves import RowLeaves, solve_chunk
from pyomo_relu.solvers.global_search.settings import ROW_SIDES, SIDES


class RowSideSearch(CrewSearch):
    """Subproblems with fixed sides and boxes of one problem; see :meth:`fits`."""

    title = "sides among rows"

    settings = SETTINGS
    tree: RowTree | None = None

    @staticmethod
    def fits(problem: Problem) -> bool:
        """Whether the search suits a problem.

        All networks are affine layers and ReLU, all columns have bounds, and no equality has
        an output in it: multipliers of such rows, as between the steps of a chain, need a
        linear program (a chain of 20 neurons stayed open after 8,000 subproblems here, where
        HiGHS takes a tenth of a second).
        """
        p = problem
        if p.network is None or p.nonlinear or p.sos:
            return False
        rest = np.ones(len(p.columns), dtype=bool)
        rest[p.n : p.n + p.q] = False
        ends = np.concatenate([p.lower[rest], p.upper[rest]])
        if not (np.isfinite(ends).all() and RowBounds.fits(p.network)):
            return False
        outputs = p.matrix[:, p.n : p.n + p.q]
        joined = np.asarray(abs(outputs).sum(axis=1)).reshape(-1) > 0
        size = p.matrix.shape[0] * p.matrix.shape[1]
        return not (joined & (p.row_lower == p.row_upper)).any() and size <= ROW_SIDES.size

    @staticmethod
    def leads(problem: Problem) -> bool:
        """Whether it is likely to be the quickest: where networks' outputs are in the cost.

        Where they are in rows only, linear programs need fewer nodes.
        """
        return problem.cost_query >= 0

    @property
    def bound(self) -> float:
        """A valid lower bound of the cost."""
        if self.tree is None:
            return -math.inf
        return min(self.tree.bound, self.incumbent.cost)

    @property
    def open_boxes(self) -> int:
        """Subproblems that are neither pruned nor split."""
        return 1 if self.tree is None else len(self.tree)

    def begin(self) -> None:
        """Bound the whole."""
        p = self.problem
        assert p.network is not None
        lows, highs = node_ranges(p, *p.box)
        end = p.network.outputs[0]
        outputs = slice(p.n, p.n + p.q)
        terms = RowTerms(
            p, outputs, lows[end][: p.q], highs[end][: p.q], self.settings.unit
        )
        self.bounds = RowBounds(p.network, terms, self.settings)
        self.leaves = RowLeaves(p, self.bounds)
        tree = RowTree(self.bounds, self._solve, self.crew)
        tree.start(self.cutoff, self._first_prices(terms, lows, highs))
        self.tree = tree
        self.counts.boxes += tree.nodes

    def _first_prices(
        self, terms: RowTerms, lows: list[np.ndarray], highs: list[np.ndarray]
    ) -> np.ndarray | None:
        """The multipliers of the rows in the linear relaxation, in their units."""
        p = self.problem
        program = BoxMIP(p, p.lower, p.upper, lows, highs).program
        program.integer = None
        answer = HighsModel(program).run(self.remaining)
        self.counts.lps += 1
        if answer.row_duals is None:
            return None
        duals = answer.row_duals[: len(p.row_lower)]
        # What the bounds of an output are worth is what is left of its cost.
        left = p.cost - program.matrix[:, : len(p.cost)].T @ answer.row_duals
        return np.append(duals, left[p.n + terms.bounded_outputs]) / terms.scale

    def step(self) -> None:
        """Split a batch of subproblems."""
        assert self.tree is not None
        before = self.tree.nodes
        self.tree.step(self.cutoff, self.counts.rounds % ROW_SIDES.every_dive == 0)
        self.counts.boxes += self.tree.nodes - before

    def _solve(self, some: Subproblems, target: float) -> list[Leaf]:
        """Subproblems with few undecided neurons, as programs."""
        none = Leaf(-math.inf, False)
        if self._out_of_limits():
            return [none] * len(some)
        every = [some.take(np.array([k])) for k in range(len(some))]
        size = ROW_SIDES.programs
        chunks = [every[k : k + size] for k in range(0, len(every), size)]
        how = target, self.mip_gap, self.deadline
        found = self.crew.results(solve_chunk, self.leaves, how, chunks, self.title)
        answers = [
            answer
            for chunk, part in zip(chunks, found)
            for answer in (part or [None] * len(chunk))
        ]
        return [none if answer is None else self._take(answer) for answer in answers]

    def _take(self, answer: BoxAnswer) -> Leaf:
        """What a program says, and its point."""
        self.counts.mips += 1
        if answer.reason is not None and answer.reason != "time":
            self.stopped = self.stopped or answer.reason
        taken = True
        if answer.point is not None:
            before = self.incumbent.cost
            taken = self.incumbent.offer(answer.point)
            if self.gained(before):
                self.incumbent.polish(answer.point, SIDES.walk, self.remaining)
        return Leaf(answer.bound, answer.solved and taken)
