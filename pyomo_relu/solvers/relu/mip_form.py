"""A problem as a mixed-integer program: what a MIP solver gets, and the way there and back."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from pyomo_relu.base.deadline import Deadline
from pyomo_relu.presolve.problem import Problem
from pyomo_relu.programs import HighsModel, LinearProgram, scaled_program
from pyomo_relu.programs.as_model import ProgramModel
from pyomo_relu.solvers.global_search.mip import BoxMIP
from pyomo_relu.solvers.global_search.narrowing import Narrowing, cost_row
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
    description: str
    #: What the best point cost when this was written; points that cost more are left out.
    cutoff: float = math.inf
    #: Whether a better point makes it smaller.
    narrows: bool = False
    #: How many times narrower than over the box undecided pre-activations are, all together.
    narrowed: float = 1.0

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

    # -------------------------------------------------------- for solvers of Pyomo's
    @property
    @abstractmethod
    def model(self) -> Any:
        """The program as a Pyomo model, in the sense of the program."""

    @abstractmethod
    def set_values(self, point: np.ndarray) -> None:
        """Set the model's variables to a point of the program."""

    @abstractmethod
    def present(self) -> np.ndarray | None:
        """The problem's columns (m,) at the model's present values; None if some lack."""


class PresolvedMIP(MipForm):
    """The problem with its networks as big-M constraints, for points as good as the best one.

    Parameters
    ----------
    problem : Problem
    cutoff : float
        The best point's cost; infinite without one.
    deadline : Deadline
    seconds : float
        CPU seconds for bounds of inputs and pre-activations.
    """

    def __init__(
        self, problem: Problem, cutoff: float, deadline: Deadline, seconds: float
    ) -> None:
        self.problem, self.deadline, self.cutoff = problem, deadline, cutoff
        self.narrows = problem.network is not None
        self.description = "networks as big-M rows, what is decided folded away"
        lower, upper = problem.lower, problem.upper
        lows: list[np.ndarray] = []
        highs: list[np.ndarray] = []
        if problem.network is not None:
            turn = Deadline(deadline.left(), seconds)
            found = Narrowing.of_problem(problem, cutoff, turn)
            before = found.width
            found.run()
            (ranges,) = found.ranges
            lower, upper = found.lower, found.upper
            lows, highs = ranges.lows, ranges.highs
            self.narrowed = before / found.width if found.width else math.inf
            if found.width < before:
                self.description += (
                    f"; intervals of pre-activations {self.narrowed:.3g} times smaller"
                    if found.width
                    else "; all neurons are decided"
                )
        deadline.check()
        self._mip = BoxMIP(problem, lower, upper, lows, highs)
        program = self._mip.program
        if math.isfinite(cutoff) and problem.cost.any():
            program = program.with_rows(cost_row(program.cost, cutoff))
        self._scaled = scaled_program(program)
        self._completing: HighsModel | None = None
        self._model: ProgramModel | None = None

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

    @property
    def model(self) -> Any:
        """The program as a Pyomo model."""
        return self._as_model().model

    def _as_model(self) -> ProgramModel:
        if self._model is None:
            self._model = ProgramModel(self.program)
        return self._model

    def set_values(self, point: np.ndarray) -> None:
        """Set the model's variables to a point of the program."""
        self._as_model().set_values(point)

    def present(self) -> np.ndarray:
        """The problem's columns at the model's present values."""
        return self.back(self._as_model().values())
