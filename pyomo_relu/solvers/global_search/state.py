"""What every search has: limits, counts, an incumbent, a cut-off."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field

from pyomo_relu.solvers.global_search.incumbent import Incumbent
from pyomo_relu.solvers.global_search.problem import Problem

#: Share of the gap that is left for margins of bounds.
RESERVE = 5e-3


@dataclass
class Limits:
    """When the search ends, and how it works.

    Attributes
    ----------
    rel_gap, abs_gap : float
    time_limit : float
        Seconds.
    node_limit : float
        Boxes bounded.
    batch_size : int
        Boxes split in a round.
    leaf_neurons : int
        A box with at most so many undecided neurons goes to a MIP.
    seed : int
    hand_over : bool
        Whether a MIP may take over where it suits the problem better.
    slope_steps : int
        Steps that improve the slopes of each box's plane, where nothing but the box
        constrains the inputs.
    """

    rel_gap: float = 1e-4
    abs_gap: float = 1e-6
    time_limit: float = math.inf
    node_limit: float = math.inf
    batch_size: int = 128
    leaf_neurons: int = 12
    seed: int = 0
    hand_over: bool = True
    slope_steps: int = 3


@dataclass
class Counts:
    """What the search did."""

    boxes: int = 0
    rounds: int = 0
    lps: int = 0
    mips: int = 0
    seconds: dict[str, float] = field(default_factory=dict)


class Tree(ABC):
    """A search for the least cost of a problem.

    Attributes
    ----------
    incumbent : Incumbent
    counts : Counts
    floor : float
        The least bound of what is done with.
    stopped : str or None
        ``"time"``, ``"nodes"``, ``"interrupt"``, ``"callback"``, ``"unbounded"``; None while
        it runs and after a proof.
    """

    def __init__(
        self,
        problem: Problem,
        limits: Limits,
        report: Callable[[Tree, str], object] | None = None,
    ) -> None:
        self.problem, self.limits, self.report = problem, limits, report
        self.began = time.perf_counter()
        self.incumbent = Incumbent(problem, limits.seed)
        self.incumbent.on_improve = lambda: self._tell("incumbent")
        self.counts = Counts()
        self.stopped: str | None = None
        self.floor = math.inf

    @property
    @abstractmethod
    def bound(self) -> float:
        """A valid lower bound of the cost."""

    @property
    @abstractmethod
    def open_boxes(self) -> int:
        """What is neither pruned nor split."""

    @abstractmethod
    def run(self) -> None:
        """Search until the gap is closed or a limit is met."""

    @property
    def cutoff(self) -> float:
        """A box whose bound reaches this is done with."""
        u = self.incumbent.cost
        if not math.isfinite(u):
            return math.inf
        return u - (1.0 - RESERVE) * self.gap

    @property
    def gap(self) -> float:
        """How far the bound may stay below the incumbent."""
        user = abs(self.problem.user_objective(self.incumbent.cost))
        return max(self.limits.abs_gap, self.limits.rel_gap * user)

    @property
    def proved(self) -> bool:
        """Whether the bound is within the gap of the best point, or nothing is feasible.

        Margins of bounds may take a little more than the gap.
        """
        cost, bound = self.incumbent.cost, self.bound
        if not math.isfinite(cost):
            return bound == math.inf
        return cost - bound <= self.gap + 1e-7 * max(1.0, abs(cost))

    @property
    def elapsed(self) -> float:
        """Seconds since the search began."""
        return time.perf_counter() - self.began

    @property
    def remaining(self) -> float:
        """Seconds left, none below 0."""
        return max(self.limits.time_limit - self.elapsed, 0.0)

    def _out_of_limits(self) -> bool:
        if self.stopped is None and self.remaining <= 0:
            self.stopped = "time"
        if self.stopped is None and self.counts.boxes >= self.limits.node_limit:
            self.stopped = "nodes"
        return self.stopped is not None

    def _tell(self, kind: str) -> None:
        if self.report is not None and self.report(self, kind):
            self.stopped = self.stopped or "callback"


class Stepped(Tree):
    """A search in rounds, which others may interrupt."""

    @property
    def done(self) -> bool:
        """Whether nothing is left to search."""
        return not self.open_boxes

    def begin(self) -> None:
        """What comes before the first round."""

    @abstractmethod
    def step(self) -> None:
        """One round."""

    def run(self) -> None:
        """Search until the gap is closed or a limit is met."""
        try:
            self.begin()
            if self.counts.boxes:
                self._tell("log")
            while not (self.done or self._out_of_limits()):
                self.step()
        except KeyboardInterrupt:
            self.stopped = "interrupt"

    def round(self) -> None:
        """One round, counted and told."""
        self.step()
        self.counts.rounds += 1
        self._tell("log")
