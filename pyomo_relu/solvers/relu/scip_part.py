"""SCIP, with networks as constraints, as one of the searches that take turns."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING

from pyomo_relu.programs import Status
from pyomo_relu.solvers.global_search.cost_search import RoundSearch
from pyomo_relu.solvers.relu.settings import TOGETHER
from pyomo_relu.solvers.watch import Log, Progress

if TYPE_CHECKING:
    from pyomo_relu.presolve.problem import Problem
    from pyomo_relu.programs.scip import ScipAnswer
    from pyomo_relu.solvers.global_search.limits import Limits
    from pyomo_relu.solvers.scip.search import ScipSearch


class ScipPart(RoundSearch):
    """Nodes of SCIP's tree, some at a time; see :mod:`pyomo_relu.solvers.scip`.

    Parameters
    ----------
    problem : Problem
    limits : Limits
    whole : bool
        Whether the tree is searched in one go, as where nobody else waits for a turn. SCIP
        then looks for points itself, before its tree and within.

    Attributes
    ----------
    least : float
        What SCIP has proved of the cost.
    nodes : int
        So many nodes its tree has so far.
    """

    title = "relu_scip"

    least, nodes, _ended = -math.inf, 0, False
    _search: ScipSearch | None = None

    def __init__(self, problem: Problem, limits: Limits, whole: bool = False) -> None:
        super().__init__(problem, limits)
        self.whole, self.points_first = whole, not whole

    @property
    def bound(self) -> float:
        """A valid lower bound of the cost."""
        return min(self.least, self.incumbent.cost)

    @property
    def open_boxes(self) -> int:
        """1 until SCIP is done."""
        return int(not self._ended)

    def begin(self) -> None:
        """Put the problem into SCIP."""
        from pyomo_relu.solvers.scip.config import ReluScipConfig
        from pyomo_relu.solvers.scip.search import ScipSearch

        config = ReluScipConfig()()
        config.rel_gap = TOGETHER.mip_gap * self.limits.rel_gap
        config.abs_gap = TOGETHER.mip_gap * self.limits.abs_gap
        config.seed = self.limits.seed
        config.progress = self._heard
        lines = Log(config, io.StringIO())
        # The whole tree as one program is what HiGHS has beside this.
        search = ScipSearch(self.problem, config, lines, self.deadline, alone=False)
        search.points.incumbent = self.incumbent
        self._search = search
        if search.unreached is not None:
            self.least, self._ended = math.inf, True
        elif self.whole:
            search.look_for_points()
            if search.keyboard:
                raise KeyboardInterrupt

    def _heard(self, now: Progress) -> bool:
        """What SCIP tells; whether it is to stop."""
        assert self._search is not None
        self._note(now.bound)
        if self.whole:
            self._count(now.nodes)
            if now.kind == "incumbent":
                self.incumbent.offer(self._search.model.best()[: len(self.problem.columns)])
        self._tell("log")
        return self.proved or self._out_of_limits()

    def _count(self, nodes: int) -> None:
        """Note how many nodes the tree has by now."""
        self.counts.boxes += max(0, nodes - self.nodes)
        self.nodes = max(nodes, self.nodes)

    def step(self) -> None:
        """So many nodes more, or all of them."""
        search = self._search
        assert search is not None
        if self._ended:
            return
        # Turns grow with the tree: each call of SCIP costs a little.
        more = max(TOGETHER.scip_nodes, int(TOGETHER.scip_growth * self.nodes))
        nodes = -1 if self.whole else self.nodes + more
        seconds = search.model.scip.getSolvingTime() + min(self.remaining, 1e18)
        search.model.set({"limits/totalnodes": nodes, "limits/time": seconds})
        answer = search.model.run(math.inf)
        if isinstance(search.model.error, KeyboardInterrupt):
            raise KeyboardInterrupt
        self._count(answer.nodes)
        self._take(answer)

    def _take(self, answer: ScipAnswer) -> None:
        assert self._search is not None
        if answer.point is not None and self.whole:
            self._search.best_point(answer)
        elif answer.point is not None:
            z = answer.point[: len(self.problem.columns)].copy()
            before = self.incumbent.cost
            if not self.incumbent.offer(z) and not math.isfinite(before):
                self.incumbent.polish(z)
        self._ended = not answer.status.stopped_early
        if answer.status is Status.INFEASIBLE and math.isinf(
            self._search.sure(answer.bound)
        ):
            self.least = math.inf
        else:
            self._note(answer.bound)
        if answer.status in (Status.UNBOUNDED, Status.INFEASIBLE_OR_UNBOUNDED):
            self.stopped = "unbounded"
        if answer.status is Status.INTERRUPTED and not (
            self.proved or self._out_of_limits()
        ):
            raise KeyboardInterrupt  # SCIP takes Ctrl-C itself

    def _note(self, bound: float) -> None:
        """A bound in the user's sense, as far as it goes."""
        assert self._search is not None
        p, bound = self.problem, self._search.sure(bound)
        if math.isfinite(bound):
            self.least = max(self.least, p.sign * (bound - p.offset))
