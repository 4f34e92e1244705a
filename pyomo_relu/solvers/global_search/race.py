"""Several searches of one problem by turns.

Which of boxes, sides of neurons and a MIP is the quickest shows only while they run. So
they take turns, and each round of turns is twice as long as the one before: together
they cost little more than a fixed multiple of the quickest. They share the best point.
Turns are counted in boxes, not in seconds: the same model is solved in the same way again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from pyomo_relu.solvers.global_search.cost_search import CostSearch, RoundSearch
from pyomo_relu.solvers.global_search.mip import BoxMIP, node_ranges
from pyomo_relu.solvers.global_search.settings import TURNS


class WholeMIP(RoundSearch):
    """The whole problem as a MIP with a limited number of nodes.

    Attributes
    ----------
    nodes : int
        Of HiGHS's tree, in the next step.
    """

    title = "mip"

    nodes, least, solved = 1, -math.inf, False

    @property
    def bound(self) -> float:
        """A valid lower bound of the cost."""
        return min(self.least, self.incumbent.cost)

    @property
    def open_boxes(self) -> int:
        """1 until the MIP is solved."""
        return int(not self.solved)

    def step(self) -> None:
        """Solve it anew, with more nodes than before."""
        p = self.problem
        mip = BoxMIP(p, p.lower, p.upper, *node_ranges(p, *p.box))
        answer = mip.solve(
            self.cutoff,
            self.remaining,
            gap=self.mip_gap,
            stop=self.poll,
            nodes=self.nodes,
        )
        self.counts.mips += 1
        self.least = max(self.least, answer.bound)
        taken = answer.point is None or self.incumbent.offer(answer.point)
        self.solved = answer.solved and taken


class Race(RoundSearch):
    """Searches that take turns.

    Parameters
    ----------
    parts : sequence of RoundSearch
        The likely quickest first. They get this search's incumbent, counts and deadline.
    turns : sequence of float
        Boxes of each one's first turn.
    """

    title = "race"

    def __init__(self, parts: Sequence[RoundSearch], turns: Sequence[float]) -> None:
        first = parts[0]
        super().__init__(first.problem, first.limits, first.report)
        self.parts, self.turns = list(parts), list(turns)
        self.now, self.cycle, self.begun = 0, 0, 0
        self._open = [math.inf] * len(self.parts)
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
        known = [part.bound for part in self.parts[: self.begun]]
        return min(max(known, default=-math.inf), self.incumbent.cost)

    @property
    def leader(self) -> str:
        """Whose bound is the best."""
        known = self.parts[: self.begun] or self.parts
        return max(known, key=lambda part: part.bound).leader

    @property
    def at_work(self) -> str:
        """Whose turn it is."""
        return self.parts[self.now].at_work

    @property
    def planned(self) -> list[str]:
        """The titles of all parts."""
        return [part.title for part in self.parts]

    @property
    def titles(self) -> list[str]:
        """The titles of the parts that had a turn."""
        return [part.title for part in self.parts[: self.begun]]

    @property
    def open_boxes(self) -> int:
        """Those of the search whose turn it is; none once one of them is done."""
        return 0 if self.proved else self.parts[self.now].open_boxes

    @property
    def done(self) -> bool:
        """Whether there is a proof, or nothing left to search."""
        started = self.begun == len(self.parts)
        return self.proved or (started and all(part.done for part in self.parts))

    def round(self) -> None:
        """One turn of one search, which counts and tells its own rounds."""
        self.step()

    def step(self) -> None:
        """One turn of one search."""
        k, part = self.now, self.parts[self.now]
        if k >= self.begun:
            self.begun = k + 1
            part.begin()
        boxes = self.turns[k] * 2.0**self.cycle
        if isinstance(part, WholeMIP):
            if not self._others_shrink() and not part.done:
                part.nodes = max(1, int(boxes / TURNS.boxes_per_node))
                part.step()
        else:
            end = self.counts.boxes + boxes
            while self.counts.boxes < end and not (part.done or self.proved):
                if self._out_of_limits():
                    break
                part.round()
        self.stopped = self.stopped or part.stopped
        self.now = (k + 1) % len(self.parts)
        self.cycle += self.now == 0

    def _others_shrink(self) -> bool:
        """Whether a search before this one got smaller: it ends before a MIP does."""
        others = [part.open_boxes for part in self.parts[: self.now]]
        before, self._open[: self.now] = self._open[: self.now], others
        return any(a < b for a, b in zip(others, before))
