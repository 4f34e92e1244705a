"""`Ascent`: a value raised by steps along its gradient that are halved until it rises."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pyomo_relu.base.deadline import Deadline, TimeUp

Point = TypeVar("Point")
Fit = TypeVar("Fit")

#: What a caller is told of an iteration; a true answer ends the search.
Callback = Callable[[dict[str, Any]], Any]


@dataclass(frozen=True)
class AscentSettings:
    """The numbers that steer an ascent; all were chosen by hand.

    Attributes
    ----------
    gain : float
        The least rise of the value that counts as one; well above the tolerance of the
        programs, 1e-9.
    trials : int
        The number of steps that are tried from a point, each half as long as the last.
    growth : float
        The factor by which the step grows after one that raised the value.
    longest : float
        The longest step, in the unit of the caller's.
    """

    gain: float = 1e-7
    trials: int = 6
    growth: float = 1.5
    longest: float = 1.0


class Ascent(ABC, Generic[Point, Fit]):
    """What is raised: how a point is moved and trained.

    Attributes
    ----------
    settings : AscentSettings
    """

    settings = AscentSettings()

    @abstractmethod
    def direction(self, point: Point, fit: Fit) -> Any | None:
        """Where the value rises; None where the gradient is 0."""

    @abstractmethod
    def moved(self, point: Point, direction: Any, step: float) -> Point | None:
        """The point after a step; None if that is no other point."""

    @abstractmethod
    def train(self, point: Point, fit: Fit, deadline: Deadline) -> Fit:
        """The fit at a point, which has a ``value``; ``fit`` is the last one that rose.

        Raises
        ------
        TimeUp
            If it is not found before the deadline.
        """

    @abstractmethod
    def entry(self, point: Point, fit: Fit) -> dict[str, Any]:
        """What the history says of an iteration, besides the seconds."""

    def run(
        self,
        point: Point,
        fit: Fit,
        *,
        iterations: int,
        step: float,
        deadline: Deadline,
        callback: Callback | None = None,
    ) -> tuple[Point, Fit, list[dict[str, Any]], str]:
        """Raise the value from a point and its fit.

        Returns
        -------
        point, fit
            The last ones, whose value is the largest.
        history : list of dict
            One entry for each iteration, the first for the start.
        status : str
            Why it ended.
        """
        history: list[dict[str, Any]] = []
        for iteration in range(iterations + 1):
            entry = {**self.entry(point, fit), "seconds": deadline.elapsed}
            history.append(entry)
            stopped = bool(callback(entry)) if callback else False
            if iteration == iterations:
                break
            if stopped:
                return point, fit, history, "callback"
            direction = self.direction(point, fit)
            if direction is None:
                return point, fit, history, "gradient 0"
            try:
                found, step = self._risen(point, fit, direction, step, deadline)
            except TimeUp:
                return point, fit, history, "time limit"
            if found is None:
                return point, fit, history, "no ascent"
            point, fit = found
            step = min(self.settings.growth * step, self.settings.longest)
        return point, fit, history, "iterations"

    def _risen(
        self, point: Point, fit: Any, direction: Any, step: float, deadline: Deadline
    ) -> tuple[tuple[Point, Fit] | None, float]:
        """A point of a larger value, and the step to it."""
        for _ in range(self.settings.trials):
            deadline.check()
            moved = self.moved(point, direction, step)
            if moved is None:
                break
            trial: Any = self.train(moved, fit, deadline)
            if trial.value > fit.value + self.settings.gain:
                return (moved, trial), step
            step *= 0.5
        return None, step
