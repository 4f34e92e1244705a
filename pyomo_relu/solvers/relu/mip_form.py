"""A problem as a mixed-integer program: what HiGHS gets, and the way there and back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np

from pyomo_relu.base.deadline import Deadline
from pyomo_relu.bounds import compute_bounds
from pyomo_relu.presolve.problem import Problem
from pyomo_relu.programs import HighsModel, LinearProgram, scaled_program
from pyomo_relu.solvers.global_search.mip import BoxMIP
from pyomo_relu.solvers.relu.settings import TOGETHER


class MipForm(ABC):
    """A problem as a mixed-integer program.

    Attributes
    ----------
    problem : Problem
    description : str
        What the networks are in it, for the log.
    """

    problem: Problem
    description: ClassVar[str]

    @property
    @abstractmethod
    def program(self) -> LinearProgram:
        """What HiGHS gets."""

    @abstractmethod
    def cost_of(self, bound: float) -> float:
        """The problem's cost for a bound of the program's objective."""

    @abstractmethod
    def point_of(self, z: np.ndarray) -> np.ndarray | None:
        """All columns of the program at a point (m,) of the problem; None if some lack."""

    @abstractmethod
    def back(self, point: np.ndarray) -> np.ndarray:
        """The problem's columns (m,) at a point of the program."""


class PresolvedMIP(MipForm):
    """The problem with its networks as big-M constraints, all that is decided folded away.

    Parameters
    ----------
    problem : Problem
    deadline : Deadline
    """

    description = "networks as big-M rows, what is decided folded away"

    def __init__(self, problem: Problem, deadline: Deadline) -> None:
        self.problem, self.deadline = problem, deadline
        lows: list[np.ndarray] = []
        highs: list[np.ndarray] = []
        if problem.network is not None:
            found = compute_bounds(problem.network, *problem.box)
            lows, highs = list(found.lower), list(found.upper)
        deadline.check()
        self._mip = BoxMIP(problem, problem.lower, problem.upper, lows, highs)
        self._scaled = scaled_program(self._mip.program)
        self._completing: HighsModel | None = None

    @property
    def program(self) -> LinearProgram:
        """The program with its columns scaled."""
        return self._scaled.program

    def cost_of(self, bound: float) -> float:
        """The bound itself: the program has the problem's cost."""
        return bound

    def point_of(self, z: np.ndarray) -> np.ndarray | None:
        """All columns of the program at a point of the problem, by a program that is fixed."""
        if self._completing is None:
            self._completing = HighsModel(self.program)
        limit = min(TOGETHER.completion, self.deadline.left())
        return self._mip.completed(self._completing, self._scaled, z, limit)

    def back(self, point: np.ndarray) -> np.ndarray:
        """The problem's columns at a point of the program."""
        m = len(self.problem.columns)
        return np.asarray(point[:m] / self._scaled.factors[:m])
