"""What every search has: counts, an incumbent, a cut-off."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import ClassVar

from pyomo_relu.base.deadline import Deadline, work_time
from pyomo_relu.bounds.parallel import Crew
from pyomo_relu.bounds.pool import Pool
from pyomo_relu.presolve.problem import Problem
from pyomo_relu.solvers.global_search.incumbent import Incumbent
from pyomo_relu.solvers.global_search.limits import Limits
from pyomo_relu.solvers.global_search.points import PointSearch
from pyomo_relu.solvers.global_search.settings import COST, POINTS
from pyomo_relu.solvers.results import relative_gap
from pyomo_relu.solvers.watch import Progress


@dataclass
class Counts:
    """What the search did."""

    boxes: int = 0
    rounds: int = 0
    lps: int = 0
    mips: int = 0


#: Called with a search and the kind of its event; a true return value ends the search.
Report = Callable[["CostSearch", str], object]


class CostSearch(ABC):
    """A search for the least cost of a problem.

    Attributes
    ----------
    title : str
        What is searched, in a word.
    incumbent : Incumbent
    counts : Counts
    deadline : Deadline
        The end of the search, which began when it was made.
    stopped : str or None
        ``"time"``, ``"nodes"``, ``"interrupt"``, ``"callback"``, ``"unbounded"``; None while
        it runs and after a proof.
    """

    title: ClassVar[str]

    def __init__(
        self, problem: Problem, limits: Limits, report: Report | None = None
    ) -> None:
        self.problem, self.limits, self.report = problem, limits, report
        self.deadline = Deadline(limits.time_limit, limits.cpu_time_limit)
        self.incumbent = Incumbent(problem, limits.seed)
        self.incumbent.on_improve = lambda: self._tell("incumbent")
        self.points = PointSearch(problem, limits.seed)
        self.incumbent.stop = self.poll
        self._next_poll = -math.inf
        self.counts = Counts()
        self.stopped: str | None = None

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
        return u - (1.0 - COST.reserve) * self.gap

    @property
    def gap(self) -> float:
        """How far the bound may stay below the incumbent."""
        user = abs(self.problem.user_objective(self.incumbent.cost))
        return max(self.limits.abs_gap, self.limits.rel_gap * user)

    @property
    def mip_gap(self) -> float:
        """The absolute gap at which a small MIP may end."""
        if not self.incumbent.found:
            return 0.0
        return COST.mip_gap * (self.incumbent.cost - self.cutoff)

    @property
    def proved(self) -> bool:
        """Whether the bound is within the gap of the best point, or nothing is feasible."""
        cost, bound = self.incumbent.cost, self.bound
        if not math.isfinite(cost):
            return bound == math.inf
        return cost - bound <= self.gap + COST.slack * max(1.0, abs(cost))

    @property
    def remaining(self) -> float:
        """Seconds left, none below 0."""
        return self.deadline.left()

    def progress(self, kind: str) -> Progress:
        """How far the search is, in the user's terms."""
        p, found = self.problem, self.incumbent.point is not None
        incumbent = p.user_objective(self.incumbent.cost) if found else math.inf * p.sign
        bound = p.user_objective(self.bound)
        gap = relative_gap(incumbent, bound)
        return Progress(
            kind, self.deadline.elapsed, incumbent, bound, gap, self.counts.boxes
        )

    def gained(self, before: float) -> bool:
        """Whether the best point is clearly better than one of cost ``before``.

        The first point of all, where ``before`` is infinite, is.
        """
        if not math.isfinite(before):
            return self.incumbent.cost < before
        least = COST.better * max(COST.least_cost, abs(before))
        return self.incumbent.cost < before - least

    def _out_of_limits(self) -> bool:
        if self.stopped is None and self.deadline.expired():
            self.stopped = "time"
        if self.stopped is None and self.counts.boxes >= self.limits.node_limit:
            self.stopped = "nodes"
        return self.stopped is not None

    def poll(self) -> bool:
        """Tell how far the search is; whether it has to end.

        For all that may take longer than some tenths of a second, to be asked within.
        """
        now = time.perf_counter()
        if now >= self._next_poll:
            self._next_poll = now + COST.poll_every
            self._tell("within")
        return self._out_of_limits()

    def look_for_points(self, programs: int) -> None:
        """Look for better points by so many programs, where the limits ask for that."""
        if self.limits.points and not self.proved and not self._out_of_limits():
            self.points.turn(self.incumbent, programs, self.remaining, stop=self.poll)

    def share_with_points(self, share: float) -> None:
        """Look for points until that has had this share of the CPU time so far.

        Time counts less once the best point hasn't improved for long.
        """
        begin = self.deadline.cpu_begin
        spent = work_time() - begin
        if self.incumbent.point is not None:
            improved = self.incumbent.improved_at - begin
            fresh = POINTS.fresh + POINTS.fresh_growth * improved
            spent = min(spent, fresh) + POINTS.stale * max(0.0, spent - fresh)
        due = share * spent - self.points.spent
        if not self.limits.points or self.points.done or due < POINTS.least_turn:
            return
        turn = Deadline(cpu_seconds=due)
        while not (turn.expired() or self.points.done or self.proved):
            self.look_for_points(1)
            if self.stopped is not None:
                break

    @property
    def leader(self) -> str:
        """Whose bound this is: the title, or that of a part."""
        return self.title

    @property
    def at_work(self) -> str:
        """Whose turn it is: the title, or that of a part."""
        return self.title

    @property
    def planned(self) -> list[str]:
        """The titles of all searches that may have a turn."""
        return [self.title]

    @property
    def titles(self) -> list[str]:
        """The titles of the searches that had one."""
        return [self.title]

    def join(self, whole: CostSearch) -> None:
        """Be a part of another search: its incumbent, counts, points and end are this one's.

        What this search tells is told by the other one.
        """
        self.incumbent, self.counts = whole.incumbent, whole.counts
        self.points, self.deadline = whole.points, whole.deadline
        self.report = whole._passed_on

    def _passed_on(self, _: CostSearch, kind: str) -> bool:
        """A part's event is one of the whole; whether the part is to stop."""
        self._tell(kind)
        return self.stopped is not None

    def look_before_long(self) -> None:
        """Look for points for a share of the time, before a program that may take long."""
        limit = self.deadline.part(POINTS.share_before)
        for _ in range(POINTS.turns_before):
            if not limit.expired():
                self.look_for_points(POINTS.first)

    def _tell(self, kind: str) -> None:
        if self.report is not None and self.report(self, kind):
            self.stopped = self.stopped or "callback"


class RoundSearch(CostSearch):
    """A search in rounds, which others may interrupt.

    Attributes
    ----------
    points_first : bool
        Whether points are looked for before the first round.
    patience : float
        Beside others it begins when these have had so many CPU seconds.
    """

    points_first = True
    patience = 0.0

    @property
    def done(self) -> bool:
        """Whether nothing is left to search."""
        return not self.open_boxes

    def begin(self) -> None:
        """What comes before the first round."""

    @abstractmethod
    def step(self) -> None:
        """What one round does."""

    def round(self) -> None:
        """One round, counted and told."""
        self.step()
        self.counts.rounds += 1
        self._tell("log")
        if self.incumbent.point is None:
            self.look_for_points(1)
        elif self.counts.rounds % POINTS.every == 0:
            self.look_for_points(POINTS.more)

    def run(self) -> None:
        """Search until the gap is closed or a limit is met."""
        try:
            self.begin()
            if self.counts.boxes:
                self._tell("log")
            if self.points_first:
                self.look_for_points(POINTS.first)
            while not (self.done or self._out_of_limits()):
                self.round()
        except KeyboardInterrupt:
            self.stopped = "interrupt"


class CrewSearch(RoundSearch):
    """A search in rounds, the chunks of which an executor may take.

    Attributes
    ----------
    crew : Crew
        Who works on them; this process where no executor is given.
    """

    def __init__(
        self,
        problem: Problem,
        limits: Limits,
        executor: Executor | None = None,
        report: Report | None = None,
    ) -> None:
        super().__init__(problem, limits, report)
        self.crew = Crew(executor, self.poll)


class PoolSearch(RoundSearch):
    """A search whose open parts are boxes in a pool."""

    pool: Pool

    @property
    def bound(self) -> float:
        """A valid lower bound of the cost."""
        return min(self.pool.bound, self.incumbent.cost)

    @property
    def open_boxes(self) -> int:
        """Boxes that are neither pruned nor split."""
        return len(self.pool)
