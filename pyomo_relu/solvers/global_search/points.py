"""Points of the view with few free drivers, some programs at a time.

A search by bounds sees the states of a chain as inputs of their own, and hardly ever meets
a point at which all equalities hold. So between its rounds sequences of linear programs
(:mod:`~pyomo_relu.heuristics.sequential`) look for points where states are written out
(:meth:`~pyomo_relu.presolve.problem.Problem.for_points`), and what they find is offered in
the columns of the search.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from pyomo_relu.base.deadline import Deadline, TimeUp, work_time
from pyomo_relu.presolve.problem import Problem
from pyomo_relu.solvers.global_search.incumbent import Incumbent
from pyomo_relu.solvers.global_search.settings import POINTS


class PointSearch:
    """A search for points between the rounds of another search.

    Parameters
    ----------
    problem : Problem
        Of the other search.
    seed : int
    """

    def __init__(self, problem: Problem, seed: int) -> None:
        self.problem, self.seed = problem, seed
        self.done = problem.network is None or problem.is_box
        #: CPU seconds of all turns so far.
        self.spent = 0.0
        self._steps: Iterator[None] | None = None

    def turn(
        self,
        incumbent: Incumbent,
        programs: int,
        remaining: float,
        near: np.ndarray | None = None,
        stop: Callable[[], bool] = bool,
    ) -> None:
        """Solve some programs, and offer what they lead to.

        Parameters
        ----------
        incumbent : Incumbent
            Of the problem.
        programs : int
            How many programs are solved at most.
        remaining : float
            Seconds left to the other search.
        near : (m,) array, optional
            A point of the problem, at which the next start begins.
        stop : callable
            Asked after each program; true ends the turn.
        """
        if self.done or remaining <= 0:
            return
        begin = work_time()
        self._turn(incumbent, programs, remaining, near, stop)
        self.spent += work_time() - begin

    def _turn(
        self,
        incumbent: Incumbent,
        programs: int,
        remaining: float,
        near: np.ndarray | None,
        stop: Callable[[], bool],
    ) -> None:
        deadline = Deadline(min(remaining, POINTS.seconds))
        enough = Deadline(cpu_seconds=POINTS.with_point)
        try:
            if self._steps is None:
                self._begin(incumbent, deadline, Deadline(remaining))
                assert self._steps is not None
            self._learn(incumbent)
            if near is not None:
                whole = self.problem.in_columns_of(self._view, near[None])[0]
                self._search.suggest(np.clip(whole, self._view.lower, self._view.upper))
            self._search.deadline = deadline
            for _ in range(programs):
                found = incumbent.point is not None
                if deadline.expired() or (found and enough.expired()):
                    return
                if next(self._steps, self) is self:
                    self.done = True
                if self.done or stop():
                    return
        except TimeUp:
            return

    def _begin(self, incumbent: Incumbent, deadline: Deadline, end: Deadline) -> None:
        from pyomo_relu.heuristics.sequential import SequentialSearch

        # Half a view is none, so that it may take more than a turn.
        self._view = view = self.problem.for_points(end)

        def judge(z: np.ndarray) -> None:
            incumbent.offer(view.in_columns_of(self.problem, z[None])[0])

        self._search = SequentialSearch(view, judge, deadline, self.seed)
        present = None
        if incumbent.point is not None:
            present = self.problem.in_columns_of(view, incumbent.point[None])[0, : view.n]
        self._steps = self._search.steps(present)

    def _learn(self, incumbent: Incumbent) -> None:
        """Hand over a better point that the other search has found."""
        if incumbent.point is None:
            return
        z = self.problem.in_columns_of(self._view, incumbent.point[None])[0]
        if self._view.violation(z) <= POINTS.feasible:
            self._search.learn(z, float(self._view.cost @ z))
