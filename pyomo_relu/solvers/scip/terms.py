"""Whose turn a node is where networks and nonlinear terms are both off.

SCIP's handler of nonlinear terms and the handler of networks each know what to split. Left
to itself the one that SCIP asks first splits a product down to its tolerance while a
network stays what it was, or the other way round. So the one that is further off, as a
share of the range that its value has in the whole tree, is asked first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from pyomo_relu.presolve.problem import Problem
from pyomo_relu.solvers.scip.settings import HANDLER


class Terms:
    """The nonlinear terms of a problem at the LP's point of a node.

    Parameters
    ----------
    problem : Problem
    variables : sequence
        SCIP's variables of the problem's columns.
    """

    def __init__(self, problem: Problem, variables: Sequence[Any]) -> None:
        self.problem, self.variables = problem, variables
        self.read = problem.beside_rows
        self.sides = [problem.sides(part) for part in problem.nonlinear]
        self.ranges: list[float] = []

    def begin(self, scip: Any) -> None:
        """Note the range of each term, before the first node."""
        parts = [self.variables[part.column] for part in self.problem.nonlinear]
        own = [scip.getTransformedVar(v) for v in parts]
        self.ranges = [float(v.getUbGlobal() - v.getLbGlobal()) for v in own]

    def off(self) -> float:
        """How far the LP's point is off in the worst term, as a share of its range.

        0 where SCIP may take all terms as they are.
        """
        z = np.zeros(len(self.problem.columns))
        z[self.read] = [self.variables[j].getLPSol() for j in self.read.tolist()]
        worst = 0.0
        for part, (above, below), width in zip(
            self.problem.nonlinear, self.sides, self.ranges
        ):
            y, x = part.formula.at(z), float(z[part.column])
            if not math.isfinite(y):
                return math.inf
            away = max(0.0 if above else x - y, 0.0 if below else y - x)
            size = max(1.0, abs(y))
            if away > HANDLER.term_off * size:
                open_ended = width >= HANDLER.endless
                worst = max(worst, away / max(size if open_ended else width, 1e-300))
        return worst
