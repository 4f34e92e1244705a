"""Starts for models with nonlinear terms or SOS constraints beside their networks.

The sequences of linear programs (:mod:`~pyomo_relu.heuristics.sequential`) take what is
nonlinear as they take networks: linear at the present point in each program, by its own
value where a point is judged.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pyomo_relu.base.deadline import Deadline
from pyomo_relu.heuristics.image import CALLER
from pyomo_relu.heuristics.sequential import SequentialSearch
from pyomo_relu.heuristics.start_settings import START
from pyomo_relu.presolve.problem import Problem
from pyomo_relu.presolve.reading import read_problem
from pyomo_relu.presolve.values_back import set_layers, values_at


class NonlinearStart:
    """The search for a point of a model that isn't linear.

    Parameters
    ----------
    model : Block
    deadline : Deadline
    seed : int

    Attributes
    ----------
    problem : Problem
    first : float
        CPU seconds until there was a point; infinite without one.
    point : (n_columns,) array or None
        The best point, else the least violated one, in the columns of the problem.
    programs : int
        Linear and mixed-integer programs solved.

    Raises
    ------
    TimeUp
        When the deadline has passed before the model was read.
    """

    def __init__(self, model: Any, deadline: Deadline, seed: int) -> None:
        reading = Deadline(deadline.left() + START.reading)
        self.problem: Problem = read_problem(model, reading, CALLER, general=True)
        self.first, self.programs = math.inf, 0
        self.point: np.ndarray | None = None
        #: Least violation that was met, and where.
        self._least = math.inf
        self._closest: np.ndarray | None = None
        self._view = self.problem.for_points(reading)
        self._deadline = deadline
        if self.problem.infeasible is None and self.problem.unbounded is None:
            self._search(seed)

    def _search(self, seed: int) -> None:
        view = self._view
        search = SequentialSearch(view, self._judge, self._deadline, seed)
        values = [v.value for v in view.columns[: view.n]]
        present = None if None in values else np.array(values, dtype=float)
        search.run(self._deadline, START.patience, present)
        self.programs = search.programs
        found = self._closest if search.point is None else search.point
        if found is not None:
            self.point = view.in_columns_of(self.problem, found[None])[0]

    def _judge(self, z: np.ndarray) -> None:
        violation = self._view.violation(z)
        if violation < self._least:
            self._least, self._closest = violation, z.copy()
        if self.first == math.inf and violation <= START.feasible:
            self.first = Deadline().cpu_begin - self._deadline.cpu_begin

    def write(self) -> None:
        """Set the model's variables to the point, if there is one."""
        if self.point is None:
            return
        for v, x in values_at(self.problem, self.point).items():
            if not v.fixed:
                v.set_value(x, skip_validation=True)
        set_layers(self.problem)
