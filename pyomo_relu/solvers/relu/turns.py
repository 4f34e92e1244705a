"""Searches that take turns by CPU time; who is likely to be done first gets more."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pyomo_relu.base.deadline import Deadline, work_time
from pyomo_relu.solvers.global_search.cost_search import CostSearch, RoundSearch
from pyomo_relu.solvers.relu.forecast import Forecast, weights
from pyomo_relu.solvers.relu.settings import TOGETHER


class Turns(RoundSearch):
    """Several searches of one problem, with one incumbent.

    Which is the quickest shows only while they run. Each turn is as long as a share of
    what its search has had so far, so the turns grow, and the search that will be done
    first, by :class:`~pyomo_relu.solvers.relu.forecast.Forecast`, gets ``lead`` times as
    much as another, and that many times less goes to one that is hopelessly behind.

    Parameters
    ----------
    parts : sequence of RoundSearch
        The likely quickest first.
    favourite : int, optional
        The one that leads as long as bounds don't tell which one is to.
    """

    title = "turns"

    def __init__(self, parts: Sequence[RoundSearch], favourite: int | None = None) -> None:
        first = parts[0]
        super().__init__(first.problem, first.limits, first.report)
        self.parts, self.favourite = list(parts), favourite
        self.spent = [0.0] * len(self.parts)
        self.begun = [False] * len(self.parts)
        self.now = 0
        self.forecasts = [Forecast() for _ in self.parts]
        for part in self.parts:
            part.join(self)

    def join(self, whole: CostSearch) -> None:
        """Be a part of another search; the parts are, too."""
        super().join(whole)
        for part in self.parts:
            part.join(self)

    @property
    def bound(self) -> float:
        """A valid lower bound of the cost."""
        return min(max(self._bounds(), default=-math.inf), self.incumbent.cost)

    @property
    def leader(self) -> str:
        """Whose bound is the best."""
        bounds = self._bounds()
        return self.parts[bounds.index(max(bounds))].leader

    @property
    def at_work(self) -> str:
        """Whose turn it is."""
        return self.parts[self.now].at_work

    @property
    def titles(self) -> list[str]:
        """Which searches had a turn."""
        pairs = zip(self.parts, self.begun)
        return [title for part, begun in pairs if begun for title in part.titles]

    @property
    def planned(self) -> list[str]:
        """The titles of all of them."""
        return [title for part in self.parts for title in part.planned]

    def _bounds(self) -> list[float]:
        pairs = zip(self.parts, self.begun)
        return [part.bound if begun else -math.inf for part, begun in pairs]

    @property
    def open_boxes(self) -> int:
        """Those of all searches that have begun; none once there is a proof."""
        if self.proved:
            return 0
        pairs = zip(self.parts, self.begun)
        return sum(part.open_boxes if begun else 1 for part, begun in pairs)

    @property
    def done(self) -> bool:
        """Whether there is a proof, or nothing left to search."""
        return self.proved or all(
            begun and part.done for part, begun in zip(self.parts, self.begun)
        )

    def step(self) -> None:
        """One turn of one search."""
        self.now = k = self._next()
        part, now = self.parts[k], work_time()
        if not self.begun[k]:
            part.begin()
            self.begun[k] = True
        # The turn comes after the beginning: who has had no round can't be judged.
        turn = Deadline(
            cpu_seconds=max(TOGETHER.turn, TOGETHER.turn_growth * self.spent[k])
        )
        while not (turn.expired() or part.done or self.proved or self._out_of_limits()):
            part.round()
            if part.stopped is not None:
                break
        self.stopped = self.stopped or part.stopped
        self.spent[k] += work_time() - now
        self.forecasts[k].note(self.spent[k], part.bound)

    def _next(self) -> int:
        """The search that has had least of what is due to it."""
        weight = weights(self.forecasts, self.incumbent.cost, self.favourite)
        due: list[float] = []
        for k, part in enumerate(self.parts):
            ended = self.begun[k] and part.done
            if not self.begun[k] and self._waits(part) and self._others(k):
                due.append(math.inf)
                continue
            due.append(math.inf if ended else self.spent[k] / weight[k])
        return due.index(min(due))

    def _waits(self, part: RoundSearch) -> bool:
        """Whether a search that hasn't begun leaves the time to the others.

        To begin costs most where there are many networks, and is lost where another search
        is done soon.
        """
        spent, cost = sum(self.spent), self.incumbent.cost
        if spent < part.patience:
            return True
        pairs = zip(self.forecasts, self.spent)
        soon = any(f.end(cost) < TOGETHER.soon * seconds for f, seconds in pairs)
        return soon and spent < TOGETHER.wait_at_most

    def _others(self, k: int) -> bool:
        """Whether another search than this one has something left to do."""
        pairs = enumerate(zip(self.parts, self.begun))
        return any(j != k and not (begun and part.done) for j, (part, begun) in pairs)
