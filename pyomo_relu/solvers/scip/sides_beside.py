"""The search by sides among rows, in turns beside SCIP's tree.

Where one network of many inputs is in the cost, planes over boxes close little, and a linear
program for each node is dear: the multipliers of many subproblems at once
(:mod:`~pyomo_relu.sides.row_tree`) see far more of them. So that search has a share of the time,
more or less of it as its bound or SCIP's is nearer to the best point, which both
share. What it proves holds for the whole tree.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from pyomo_relu.base.deadline import Deadline
from pyomo_relu.presolve.problem import Problem
from pyomo_relu.programs.scip import ScipModel
from pyomo_relu.solvers.global_search.limits import Limits
from pyomo_relu.solvers.global_search.row_side_search import RowSideSearch
from pyomo_relu.solvers.global_search.settings import TURNS
from pyomo_relu.solvers.global_search.strategy import widest
from pyomo_relu.solvers.scip.points import Points
from pyomo_relu.solvers.scip.settings import SIDES_BESIDE


class SidesBeside:
    """Subproblems of sides and boxes of the whole problem, some at a time.

    Parameters
    ----------
    model : ScipModel
    points : Points
    limits : Limits
        The gaps at which the search may end.
    poll : callable
        Asked now and then within a turn; true ends it.
    deadline : Deadline

    Attributes
    ----------
    subproblems : int
        So many were bounded so far.
    """

    def __init__(
        self,
        model: ScipModel,
        points: Points,
        limits: Limits,
        poll: Callable[[], bool],
        deadline: Deadline,
    ) -> None:
        self.model, self.points = model, points
        self.search = RowSideSearch(
            points.problem, limits, report=lambda search, kind: poll()
        )
        self.search.incumbent, self.search.deadline = points.incumbent, deadline
        self.search.points = points.search
        self.begin, self.spent = time.process_time(), 0.0

    @staticmethod
    def suits(problem: Problem) -> bool:
        """Whether a problem is one of which this search is likely to have the better bound."""
        few = widest(problem) <= TURNS.most_inputs
        return not few and RowSideSearch.fits(problem) and RowSideSearch.leads(problem)

    @property
    def subproblems(self) -> int:
        return self.search.counts.boxes

    @property
    def bound(self) -> float:
        """What is proved of the cost, at most that of the best point."""
        return self.search.bound

    def due(self, bound: float, nodes: int) -> bool:
        """Whether a turn is due.

        Parameters
        ----------
        bound : float
            What SCIP has proved of the cost.
        nodes : int
            How many SCIP has seen.
        """
        if self.search.stopped is not None or nodes < SIDES_BESIDE.nodes:
            return False
        others = time.process_time() - self.begin - self.spent - SIDES_BESIDE.after
        share = self._share(bound)
        return self.spent <= others * share / (1.0 - share)

    def _share(self, bound: float) -> float:
        """The share of the CPU time that is this search's."""
        best, lead = self.points.incumbent.cost, SIDES_BESIDE.lead
        if self.spent < SIDES_BESIDE.trial or not math.isfinite(best):
            return 0.5
        own, other = best - self.bound, best - bound
        if own * SIDES_BESIDE.nearer <= other:
            return lead
        return 1.0 - lead if other * SIDES_BESIDE.nearer <= own else 0.5

    def turn(self, bound: float) -> bool:
        """Some rounds, until no more are due; whether no point is better than the best one.

        The parameter is as for :meth:`due`. Points that are found go to SCIP.
        """
        begin, search, before = time.process_time(), self.search, self.spent
        self._learn()
        while True:
            if search.tree is None:
                search.begin()
            else:
                search.round()
            self.spent = before + time.process_time() - begin
            if search.proved or search.done or search.poll():
                break
            if not self.due(bound, SIDES_BESIDE.nodes):
                break
        better = self.points.better()
        if better is not None:
            self.model.offer(better)
        return search.proved

    def _learn(self) -> None:
        """Take over SCIP's best point, where it is better than what is known."""
        scip, problem = self.model.scip, self.points.problem
        if not scip.getNSols():
            return
        cost = problem.sign * (float(scip.getPrimalbound()) - problem.offset)
        if cost < self.points.incumbent.cost:
            self.points.incumbent.offer(self.model.best()[: len(problem.columns)])
