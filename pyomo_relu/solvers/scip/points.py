"""Points for SCIP, before it begins and within its tree.

Every point goes through the networks and is judged by all rows before SCIP gets it.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from pyscipopt import SCIP_HEURTIMING, SCIP_RESULT, Heur

from pyomo_relu.base.deadline import Deadline
from pyomo_relu.heuristics.sequential import SequentialSearch
from pyomo_relu.presolve.functions import Separated
from pyomo_relu.presolve.problem import Problem
from pyomo_relu.programs.scip import ScipModel
from pyomo_relu.solvers.global_search.incumbent import Incumbent
from pyomo_relu.solvers.global_search.points import PointSearch
from pyomo_relu.solvers.scip.settings import POINTS


class Points:
    """What is known of feasible points, and who looks for more.

    Parameters
    ----------
    problem : Problem
    separated : Separated
        The same as SCIP has it.
    seed : int
    """

    def __init__(self, problem: Problem, separated: Separated, seed: int) -> None:
        self.problem, self.separated = problem, separated
        self.incumbent = Incumbent(problem, seed)
        self.search = PointSearch(problem, seed)
        self.offered = np.inf

    def better(self) -> np.ndarray | None:
        """The best point in all of SCIP's columns, where SCIP doesn't have it yet."""
        cost, point = self.incumbent.cost, self.incumbent.point
        if point is None or not cost < self.offered:
            return None
        self.offered = cost
        return self.separated.complete(point)

    def first(self, seconds: float, patience: int = 1) -> None:
        """Look for a point before SCIP begins, until so many turns bring no better one."""
        deadline, idle = Deadline(3.0 * seconds, seconds), 0
        while not self.search.done and not deadline.expired() and idle < patience:
            before = self.incumbent.cost
            self.search.turn(self.incumbent, POINTS.programs, deadline.left())
            if self.incumbent.point is not None:
                idle = 0 if self.incumbent.cost < before else idle + 1

    def close(self, point: np.ndarray) -> None:
        """Offer the point (m,) that Newton's steps lead to, all nonlinear rows closed."""
        deadline = Deadline(3.0 * POINTS.closing, POINTS.closing)
        SequentialSearch(self.problem, self.incumbent.offer, deadline).close(point)


class PointHeuristic(Heur):
    """Hands SCIP what the networks make of its LP's points, and what programs find.

    Parameters
    ----------
    model : ScipModel
    points : Points
    deadline : Deadline
    """

    def __init__(self, model: ScipModel, points: Points, deadline: Deadline) -> None:
        self.program, self.points, self.deadline = model, points, deadline
        self.begin, self.spent, self.calls = time.process_time(), 0.0, 0
        self._guarded = model.guarded({"result": SCIP_RESULT.DIDNOTRUN})(self._look)

    def include(self) -> None:
        """Put the heuristic into the program."""
        self.program.scip.includeHeur(
            self,
            "networks",
            "points of networks",
            "N",
            priority=100_000,
            freq=1,
            timingmask=SCIP_HEURTIMING.AFTERLPNODE,
        )

    def heurexec(self, heurtiming: Any, nodeinfeasible: bool) -> dict:
        """What SCIP calls after a node's LP."""
        return self._guarded()

    def _look(self) -> dict:
        begin = time.process_time()
        points, self.calls = self.points, self.calls + 1
        found = points.incumbent.point is not None
        share = POINTS.with_point if found else POINTS.without
        search = share * (begin - self.begin) - self.spent > POINTS.least
        ran = search or not found or self.calls % POINTS.every == 1
        if ran:
            variables = self.program.variables[: len(points.problem.columns)]
            z = np.array([v.getLPSol() for v in variables])
            points.incumbent.offer(z)
        if search:
            left = self.deadline.left()
            points.search.turn(points.incumbent, POINTS.programs, left, z)
        better = points.better()
        taken = better is not None and self.program.offer(better, self)
        self.spent += time.process_time() - begin
        if taken:
            return {"result": SCIP_RESULT.FOUNDSOL}
        return {"result": SCIP_RESULT.DIDNOTFIND if ran else SCIP_RESULT.DIDNOTRUN}
